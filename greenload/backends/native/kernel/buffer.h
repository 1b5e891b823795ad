// Memory that is kept from image to image and only grows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <new>
#include <utility>

namespace greenload {

// Vector instructions read and write so many bytes past a row's end, at most; every Buffer has them behind its end.
constexpr size_t kSlack = 256;

class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }

  // At least so many bytes, aligned to 64. What was in it before is lost.
  uint8_t* bytes(size_t size) {
    if (size > size_ || !data_) {
      release();
      // Aligned by hand: of memory that aligned_alloc gave, glibc before 2.38 doesn't use what was freed for the same
      // again, so that a process with many buffers grows and grows.
      memory_ = malloc(size + kSlack + kAlignment);
      if (!memory_) {
        throw std::bad_alloc();
      }
      data_ = static_cast<uint8_t*>(memory_) + (kAlignment - reinterpret_cast<uintptr_t>(memory_) % kAlignment);
      size_ = size;
    }
    return data_;
  }

  template <class T>
  T* of(size_t count) {
    return reinterpret_cast<T*>(bytes(count * sizeof(T)));
  }

  // Where memory that may be read ends.
  const uint8_t* end() const { return data_ + size_ + kSlack; }

  size_t size() const { return size_; }

  void swap(Buffer& other) {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  void release() {
    free(memory_);
    memory_ = nullptr;
    data_ = nullptr;
    size_ = 0;
  }

 private:
  static constexpr size_t kAlignment = 64;
  void* memory_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Releases buffers that hold more bytes than `limit` together.
inline void release_above(size_t limit, std::initializer_list<Buffer*> buffers) {
  size_t sum = 0;
  for (const Buffer* buffer : buffers) {
    sum += buffer->size();
  }
  for (Buffer* buffer : buffers) {
    if (sum > limit) {
      buffer->release();
    }
  }
}

}  // namespace greenload
