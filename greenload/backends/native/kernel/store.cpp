#include "store.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "crc32c.h"
#include "failure.h"
#include "files.h"

namespace greenload {

namespace {

constexpr size_t kBlock = size_t{8} << 20, kLargestBlock = size_t{64} << 20;
constexpr int64_t kBlocks = 64;                   // so many, and they become larger: a process may map only so many files
constexpr int64_t kLargestBlob = int64_t{1} << 32;
constexpr int64_t kPause = 1'000'000'000;         // nanoseconds between looks at what others have written

std::string folder_of(const char* folder, const uint8_t* key) {
  if (!folder) {
    return "";
  }
  std::string path = std::string(folder) + "/";
  for (size_t i = 0; i < kKeyBytes; i++) {
    char digits[3];
    snprintf(digits, sizeof digits, "%02x", key[i]);
    path += digits;
  }
  return path;
}

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

}  // namespace

Store::Store(const char* folder, const uint8_t* key, int64_t count, int64_t budget)
    : folder_(folder_of(folder, key)),
      count_(count),
      budget_(budget),
      process_(getpid()),
      slots_(count > 0 ? new std::atomic<const Record*>[count]() : nullptr) {
  memcpy(key_, key, kKeyBytes);
  if (count < 1 || budget < 0) {
    fail(GL_BAD_CALL, "a store of %lld samples", static_cast<long long>(count));
  }
  if (folder_.empty()) {
    return;
  }
  struct stat status;
  if (!make_folder(folder_) || stat(folder_.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    fail(GL_BAD_CALL, "%s: %s", folder_.c_str(), strerror(errno));
  }
  remove_leftovers(folder_);
  Lock lock(lock_);
  take_in(lock);
}

Store::~Store() {
  try {
    flush();
  } catch (...) {
  }
}

bool Store::forked() const { return getpid() != process_; }

const uint8_t* Store::get(int64_t index, int64_t* length) {
  if (index < 0 || index >= count_) {
    return nullptr;
  }
  const Record* record = slots_[index].load(std::memory_order_acquire);
  if (record && record->state.load(std::memory_order_relaxed) != Record::kSound) {
    record = checked(record);
  }
  if (!record) {
    return nullptr;
  }
  *length = record->length;
  return record->blob;
}

// A record that is sound, in place of one that wasn't looked at; null where there is none.
const Record* Store::checked(const Record* record) {
  while (record) {
    if (record->state != Record::kDamaged && crc32c(record->blob, record->length) == record->crc) {
      record->state = Record::kSound;
      return record;
    }
    if (forked()) {
      return nullptr;
    }
    Lock lock(lock_);
    if (record->state.exchange(Record::kDamaged) != Record::kDamaged) {
      damaged_++;
    }
    std::atomic<const Record*>& slot = slots_[record->index];
    const Record* current = slot.load();
    if (current == record) {
      auto spare = spares_.find(record->index);
      current = spare == spares_.end() ? nullptr : spare->second;
      if (spare != spares_.end()) {
        spares_.erase(spare);
      }
      kept_ -= current == nullptr;
      slot.store(current, std::memory_order_release);
    }
    record = current;
  }
  return nullptr;
}

bool Store::put(int64_t index, const uint8_t* blob, int64_t length) {
  if (index < 0 || index >= count_ || length < 1 || forked()) {
    return false;
  }
  Lock lock(lock_);
  if (slots_[index].load(std::memory_order_relaxed) || coming_.count(index)) {
    return false;
  }
  const int64_t size = static_cast<int64_t>(aligned(static_cast<size_t>(length)));
  if (full_ || length > kLargestBlob || (budget_ && bytes_ + size > budget_)) {
    refused_++;
    return false;
  }
  Block* block;
  uint8_t* place = reserve(static_cast<size_t>(length), &block);
  coming_.insert(index);
  block->copying++;  // from here on nothing is thrown until it is less again
  bytes_ += size;
  lock.unlock();
  memcpy(place, blob, length);
  const uint32_t sum = folder_.empty() ? 0 : crc32c(place, length);
  lock.lock();
  coming_.erase(index);
  block->copying--;
  changed_.notify_all();
  block->records.emplace_back(place, index, length, sum, Record::kSound);
  publish(block->records.back());
  write_due(lock);
  return true;
}

uint8_t* Store::reserve(size_t length, Block** block) {
  uint8_t* place = filling_ ? filling_->reserve(length) : nullptr;
  if (!place) {
    const size_t usual = std::clamp(static_cast<size_t>(bytes_ / kBlocks), kBlock, kLargestBlock);
    std::unique_ptr<Block> next(new Block(std::max(usual, length)));
    if (filling_) {
      filling_->sealed = true;
    }
    filling_ = next.get();
    blocks_.push_back(std::move(next));
    place = filling_->reserve(length);
  }
  *block = filling_;
  return place;
}

void Store::publish(const Record& record) {
  std::atomic<const Record*>& slot = slots_[record.index];
  if (slot.load()) {
    spares_.emplace(record.index, &record);
    return;
  }
  kept_++;
  slot.store(&record, std::memory_order_release);
}

void Store::write_due(Lock& lock) {
  if (folder_.empty()) {
    return;
  }
  bool wrote = false;
  for (size_t i = 0; i < blocks_.size(); i++) {
    Block* block = blocks_[i].get();
    if (!block->sealed || block->writing || block->copying || block->records.empty() || full_) {
      continue;
    }
    block->writing = true;
    writers_++;
    lock.unlock();
    std::string reason;
    bool written = false;
    try {
      written = block->write(folder_, {key_, count_}, &reason);
    } catch (const std::exception& error) {
      reason = error.what();
    }
    lock.lock();
    writers_--;
    if (written) {
      names_.insert(block->name);
      wrote = true;
    } else {
      block->writing = false;  // it stays in memory, and is tried again by flush()
      full_ = true;
      say(reason);
    }
    changed_.notify_all();
  }
  if (wrote && now() - looked_ > kPause) {
    take_in(lock);
  }
}

void Store::take_in(Lock&) {
  looked_ = now();
  for (const std::string& name : names_in(folder_, ".block")) {
    if (!names_.insert(name).second) {
      continue;
    }
    const std::string path = folder_ + "/" + name;
    Block::Found found;
    std::unique_ptr<Block> block(Block::open(path, {key_, count_}, &found));
    if (found == Block::kBroken) {
      damaged_++;
      say(path + " is damaged, and was removed");
      unlink(path.c_str());
    }
    if (!block) {
      continue;
    }
    for (const Record& record : block->records) {
      bytes_ += static_cast<int64_t>(aligned(static_cast<size_t>(record.length)));
      publish(record);
    }
    blocks_.push_back(std::move(block));
  }
}

void Store::flush() {
  if (folder_.empty() || forked()) {
    return;
  }
  Lock lock(lock_);
  full_ = false;
  if (filling_) {
    filling_->sealed = true;
    Block* sealed = filling_;
    filling_ = nullptr;
    changed_.wait(lock, [&] { return sealed->copying == 0; });
  }
  write_due(lock);
  changed_.wait(lock, [&] { return writers_ == 0; });
  take_in(lock);
}

void Store::say(const std::string& trouble) { trouble_ = trouble; }

void Store::state(gl_store_state_t* state) {
  *state = gl_store_state_t();
  state->kept = kept_;
  if (forked()) {
    return;
  }
  Lock lock(lock_);
  state->bytes = bytes_;
  state->damaged = damaged_;
  state->refused = refused_;
  state->full = full_;
  snprintf(state->trouble, sizeof state->trouble, "%s", trouble_.c_str());
}

}  // namespace greenload
