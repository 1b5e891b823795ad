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
#include "transcoder.h"

namespace greenload {

namespace {

constexpr size_t kBlock = size_t{8} << 20, kLargestBlock = size_t{64} << 20;
constexpr int64_t kBlocks = 64;                   // so many, and they become larger: a process may map only so many files
constexpr int64_t kLargestBlob = int64_t{1} << 32;
constexpr int64_t kPause = 1'000'000'000;         // nanoseconds between looks at what others have written

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

}  // namespace

Store::Store(const std::string& folder, const uint8_t* key, int64_t count, int64_t budget)
    : folder_(folder), count_(count), process_(getpid()), slots_(count > 0 ? new Slot[count]() : nullptr) {
  memcpy(key_, key, kKeyBytes);
  if (count < 1) {
    fail(GL_BAD_CALL, "a store of %lld samples", static_cast<long long>(count));
  }
  set_budget(budget);
  if (folder_.empty()) {
    return;
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
    Slot& slot = slots_[record->index];
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

// That a thread is about to keep a sample: others that want to wait for it, or leave it.
class Store::Coming {
 public:
  Coming(Store& store, Lock& lock, int64_t index) : store_(store), lock_(lock), index_(index) {
    store_.coming_.insert(index_);
  }
  ~Coming() {
    if (!lock_.owns_lock()) {
      lock_.lock();
    }
    store_.coming_.erase(index_);
    store_.changed_.notify_all();
  }

 private:
  Store& store_;
  Lock& lock_;
  const int64_t index_;
};

bool Store::put(int64_t index, const uint8_t* blob, int64_t length) {
  if (index < 0 || index >= count_ || length < 1 || forked()) {
    return false;
  }
  Lock lock(lock_);
  if (slots_[index].load(std::memory_order_relaxed) || coming_.count(index)) {
    return false;
  }
  Coming coming(*this, lock, index);
  return add(lock, index, blob, length);
}

const uint8_t* Store::keep(int64_t index, const uint8_t* file, int64_t length, int32_t form, int64_t* kept_length) {
  const uint8_t* blob = get(index, kept_length);
  if (blob) {
    return blob;
  }
  if (index < 0 || index >= count_ || length < 1) {
    fail(GL_BAD_CALL, length < 1 ? "it is empty" : "no sample %lld", static_cast<long long>(index));
  }
  if (forked()) {
    fail(GL_BAD_CALL, "a child process adds nothing to the store that its parent opened");
  }
  Lock lock(lock_);
  changed_.wait(lock, [&] { return coming_.count(index) == 0; });
  if (slots_[index].load(std::memory_order_relaxed)) {
    lock.unlock();
    return get(index, kept_length);
  }
  // Once too little is left for one more, nothing is transcoded only to be refused.
  const int64_t usual = bytes_ / std::max<int64_t>(kept_, 1);
  if (full_ || (budget_ && bytes_ + usual > budget_)) {
    refused_++;
    return nullptr;
  }
  Coming coming(*this, lock, index);
  if (form != GL_ENCODED) {
    lock.unlock();
    static thread_local Transcoder transcoder;
    transcoder.run(&file, &length, form);
    lock.lock();
  }
  *kept_length = length;
  return add(lock, index, file, length);
}

const uint8_t* Store::add(Lock& lock, int64_t index, const uint8_t* blob, int64_t length) {
  const int64_t size = static_cast<int64_t>(aligned(static_cast<size_t>(length)));
  if (full_ || length > kLargestBlob || (budget_ && bytes_ + size > budget_)) {
    refused_++;
    return nullptr;
  }
  Block* block;
  uint8_t* place = reserve(static_cast<size_t>(length), &block);
  block->copying++;  // from here on nothing is thrown until it is less again
  bytes_ += size;
  lock.unlock();
  memcpy(place, blob, length);
  const uint32_t sum = folder_.empty() ? 0 : crc32c(place, length);
  lock.lock();
  block->copying--;
  changed_.notify_all();
  block->records.emplace_back(place, index, length, sum, Record::kSound);
  publish(block->records.back());
  try {
    write_due(lock);
  } catch (const std::exception& error) {  // the blob is kept all the same
    say(error.what());
  }
  return place;
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
  Slot& slot = slots_[record.index];
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

void Store::set_budget(int64_t budget) {
  if (budget < 0) {
    fail(GL_BAD_CALL, "a budget of %lld bytes", static_cast<long long>(budget));
  }
  Lock lock(lock_);
  budget_ = budget;
}

void Store::say(const std::string& trouble) { snprintf(trouble_, sizeof trouble_, "%s", trouble.c_str()); }

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
  memcpy(state->trouble, trouble_, sizeof trouble_);
}

}  // namespace greenload
