#include "store.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "crc32c.h"
#include "failure.h"
#include "transcoder.h"

namespace greenload {

namespace {

constexpr size_t kBlock = size_t{8} << 20, kLargestBlock = size_t{64} << 20;
constexpr int64_t kBlocks = 64;  // so many, and they become larger: a process may map only so many files
constexpr int64_t kLargestBlob = int64_t{1} << 32;

int64_t size_of(int64_t length) { return static_cast<int64_t>(aligned(static_cast<size_t>(length))); }

}  // namespace

Store::Store(const std::string& folder, const uint8_t* key, int64_t count, int64_t budget)
    : folder_(folder), count_(count), process_(getpid()), slots_(count > 0 ? new Slot[count]() : nullptr) {
  memcpy(key_, key, kKeyBytes);
  if (count < 1) {
    fail(GL_BAD_CALL, "a store of %lld samples", static_cast<long long>(count));
  }
  set_budget(budget);
  if (!folder_.empty()) {
    remove_leftovers(folder_);
    Lock lock(lock_);
    take_in();
  }
}

Store::~Store() {
  try {
    finish();
  } catch (...) {
  }
}

bool Store::forked() const { return getpid() != process_; }

const uint8_t* Store::get(int64_t index, int64_t* length) {
  if (index < 0 || index >= count_) {
    return nullptr;
  }
  if (!folder_.empty()) {
    watch();
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

// A record that is sound, in place of one that wasn't looked at; null where there is none, or it can't be read now.
const Record* Store::checked(const Record* record) {
  while (record) {
    const int state = record->state == Record::kDamaged ? Record::kDamaged : record->block->look(*record);
    if (state == Record::kSound) {
      record->state = Record::kSound;
      return record;
    }
    if (forked()) {
      return nullptr;
    }
    Lock lock(lock_);
    if (state == Record::kUnchecked) {
      say(record->block->name + " can't be read now");
      return nullptr;
    }
    if (!record->block->lost && record->block->cut()) {
      drop(*record->block);
    } else if (record->state.exchange(Record::kDamaged) != Record::kDamaged) {
      damaged_++;
      ailing_.insert(record->block->name);
      say("a sample in " + record->block->name + " is damaged; it is read and kept anew");
    }
    record = replaced(*record);
  }
  return nullptr;
}

// What there is of a sample beside a record that is damaged: it takes its place.
const Record* Store::replaced(const Record& damaged) {
  Slot& slot = slots_[damaged.index];
  if (slot.load() != &damaged) {
    return slot.load();
  }
  const Record* other = nullptr;
  for (auto spare = spares_.find(damaged.index); !other && spare != spares_.end();
       spare = spares_.find(damaged.index)) {
    other = spare->second->state == Record::kDamaged ? nullptr : spare->second;
    spares_.erase(spare);
  }
  kept_ -= other == nullptr;
  slot.store(other, std::memory_order_release);
  return other;
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
    fail(GL_BAD_CALL, index < 0 || index >= count_ ? "there is no such sample" : "it is empty");
  }
  if (forked()) {
    fail(GL_BAD_CALL, "a child process adds nothing to the store that its parent opened");
  }
  static thread_local Transcoder transcoder;
  struct Trimmed {  // however this ends, and once the lock is given up
    ~Trimmed() { transcoder.trim(); }
  } trimmed;
  Lock lock(lock_);
  changed_.wait(lock, [&] { return coming_.count(index) == 0; });
  if (slots_[index].load(std::memory_order_relaxed)) {
    lock.unlock();
    blob = get(index, kept_length);
    return blob ? blob : (fail(GL_BAD_FILE, "what is kept of it can't be read now"), nullptr);
  }
  // Once too little is left for one more, nothing is transcoded only to be refused.
  if (!has_room(bytes_ / std::max<int64_t>(kept_, 1))) {
    return nullptr;
  }
  Coming coming(*this, lock, index);
  if (form != GL_ENCODED) {
    lock.unlock();
    transcoder.run(&file, &length, form);
    lock.lock();
  }
  *kept_length = length;
  return add(lock, index, file, length);
}

const uint8_t* Store::add(Lock& lock, int64_t index, const uint8_t* blob, int64_t length) {
  if (length > kLargestBlob || !has_room(size_of(length))) {
    return nullptr;
  }
  Block* block;
  uint8_t* place = reserve(static_cast<size_t>(length), &block);
  block->copying++;  // from here on nothing is thrown until it is less again
  bytes_ += size_of(length);
  lock.unlock();
  memcpy(place, blob, length);
  const uint32_t sum = folder_.empty() ? 0 : crc32c(place, length);
  lock.lock();
  block->copying--;
  changed_.notify_all();
  block->records.emplace_back(block, place, index, length, sum, Record::kSound);
  publish(block->records.back());
  try {
    write_due(lock);
  } catch (const std::exception& error) {  // the blob is kept all the same
    say(error.what());
  }
  return place;
}

bool Store::has_room(int64_t bytes) {
  const bool room = !full_ && (!budget_ || bytes_ + bytes <= budget_);
  refused_ += !room;
  return room;
}

uint8_t* Store::reserve(size_t length, Block** block) {
  uint8_t* place = filling_ ? filling_->reserve(length) : nullptr;
  if (!place) {
    const size_t usual = std::clamp(static_cast<size_t>(bytes_ / kBlocks), kBlock, kLargestBlock);
    std::unique_ptr<Block> next(new Block(std::max(usual, length)));
    blocks_.push_back(std::move(next));
    if (filling_) {
      filling_->sealed = true;
    }
    filling_ = blocks_.back().get();
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

void Store::set_budget(int64_t budget) {
  if (budget < 0) {
    fail(GL_BAD_CALL, "a budget of %lld bytes", static_cast<long long>(budget));
  }
  Lock lock(lock_);
  budget_ = budget;
}

void Store::forget() {
  if (forked()) {
    return;
  }
  Lock lock(lock_);
  changed_.wait(lock, [&] { return coming_.empty() && writers_ == 0; });
  for (int64_t i = 0; i < count_; i++) {
    slots_[i].store(nullptr, std::memory_order_release);
  }
  for (const auto& block : blocks_) {
    if (block->written) {
      unlink(block->path().c_str());
    }
  }
  forgotten_ = std::move(blocks_);
  blocks_.clear();
  filling_ = nullptr;
  spares_.clear();
  names_.clear();
  kept_ = 0;
  bytes_ = damaged_ = refused_ = 0;
  full_ = false;
  say("");
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
