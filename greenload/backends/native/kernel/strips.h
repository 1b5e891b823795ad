// What a window needs of a JPEG's planes: which blocks, and memory for their samples. It is a ring buffer: it has two
// rows of MCUs at a time, which are enough for upsampling, and each row takes the place of the one before the last.
#pragma once
#include <cstdint>

#include "buffer.h"
#include "image.h"
#include "jpeg_headers.h"
#include "planes.h"

namespace greenload {

// Blocks of a component, in the whole image's rows and columns of blocks.
struct BlockRange {
  int64_t top = 0, bottom = 0, left = 0, right = 0;  // `bottom` and `right` behind the last

  bool has_row(int64_t row) const { return row >= top && row < bottom; }
  bool has_column(int64_t column) const { return column >= left && column < right; }
  int64_t width() const { return right - left; }
  int64_t height() const { return bottom - top; }
};

class Strips {
 public:
  void set(const JpegFrame& frame, const Window& window);

  // A component's needed blocks, and those that it has.
  const BlockRange& needed(int component) const { return needed_[component]; }
  int64_t rows(int component) const { return rows_[component]; }
  int64_t columns(int component) const { return columns_[component]; }
  // MCUs of interleaved scans: how many the image has, and which are needed.
  int64_t mcu_rows() const { return mcu_rows_; }
  int64_t mcu_columns() const { return mcu_columns_; }
  const BlockRange& needed_mcus() const { return needed_mcus_; }
  // The last row of MCUs that a row of pixels needs.
  int64_t mcu_row_of(int64_t y) const;

  uint8_t* place(int component, int64_t row, int64_t column) {
    const Memory& memory = memory_[component];
    return memory.data + (row & memory.mask) * kSide * memory.pitch + (column - needed_[component].left) * kSide;
  }
  int64_t pitch(int component) const { return memory_[component].pitch; }
  // The image's planes, of which only what is in the strips may be read.
  const Planes& planes() const { return planes_; }

  void trim(size_t limit);

  static constexpr int64_t kSide = 8;  // of a block

 private:
  struct Memory {
    Buffer buffer;
    uint8_t* data = nullptr;
    int64_t pitch = 0;
    int64_t mask = 0;  // row of blocks & mask: where in the ring it lies
  };

  Planes planes_;
  BlockRange needed_[kMostComponents], needed_mcus_;
  int64_t rows_[kMostComponents] = {}, columns_[kMostComponents] = {};
  int64_t mcu_rows_ = 0, mcu_columns_ = 0;
  Memory memory_[kMostComponents];
};

}  // namespace greenload
