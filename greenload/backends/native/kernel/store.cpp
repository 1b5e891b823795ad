#include "store.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "crc32c.h"
#include "failure.h"
#include "transcoder.h"

namespace greenload {

namespace {

constexpr size_t kBlock = size_t{8} << 20, kLargestBlock = size_t{64} << 20;
constexpr int64_t kBlocks = 64;  // so many, and they become larger: a process may map only so many files
constexpr int64_t kLargestBlob = int64_t{1} << 32;
constexpr size_t kMostRecords = 4096;  // of a block: a file with more locks takes longer to lock

std::atomic<int64_t> common_bytes{0};  // of the stores of this process that have one budget in common

}  // namespace

Store::Store(const std::string& folder, const uint8_t* key, int64_t count, int64_t budget)
    : folder_(folder),
      count_(count),
      process_(getpid()),
      slots_(count > 0 ? new Slot[count]() : nullptr),
      locks_(folder.empty() ? nullptr : new FolderLocks(folder)) {
  memcpy(key_, key, kKeyBytes);
  if (count < 1) {
    fail(GL_BAD_CALL, "a store of %lld samples", static_cast<long long>(count));
  }
  set_budget(budget);
  if (locks_) {
    tidy();
    Lock lock(lock_);
    take_in();
  }
}

Store::~Store() {
  try {
    finish();
  } catch (...) {
  }
  common_bytes -= common_ ? bytes_ : 0;
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
  if (record && child_.load(std::memory_order_relaxed) && lost_in_child(*record->block)) {
    return nullptr;
  }
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
    if (claimed && !kept) {
      store_.locks_->release(index_);
    }
    store_.coming_.erase(index_);
    store_.changed_.notify_all();
  }

  int64_t index() const { return index_; }

  bool claimed = false, kept = false;

 private:
  Store& store_;
  Lock& lock_;
  const int64_t index_;
};

bool Store::claim(Lock& lock, Coming& coming) {
  if (!locks_) {
    return true;
  }
  lock.unlock();
  coming.claimed = locks_->claim(coming.index());
  const int64_t additions = locks_->additions();  // read after it: who had claimed the sample before has added it
  lock.lock();
  if (coming.claimed && additions != additions_) {
    take_in();
  }
  return coming.claimed && !slots_[coming.index()].load(std::memory_order_relaxed);
}

bool Store::put(int64_t index, const uint8_t* blob, int64_t length) {
  if (index < 0 || index >= count_ || length < 1 || forked()) {
    return false;
  }
  Lock lock(lock_);
  if (slots_[index].load(std::memory_order_relaxed) || coming_.count(index)) {
    return false;
  }
  Coming coming(*this, lock, index);
  coming.kept = claim(lock, coming) && add(lock, index, blob, length);
  return coming.kept;
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
  const auto kept = [&] {
    lock.unlock();
    blob = get(index, kept_length);
    return blob ? blob : (fail(GL_BAD_FILE, "what is kept of it can't be read now"), nullptr);
  };
  if (slots_[index].load(std::memory_order_relaxed)) {
    return kept();
  }
  // Nothing is transcoded only to be refused: neither once too little is left for one more of the usual size, nor what
  // is larger than what is left. The latter would cost more in each epoch than it does without a cache.
  if (!has_room(bytes_ / std::max<int64_t>(kept_, 1))) {
    return nullptr;
  }
  Coming coming(*this, lock, index);
  if (form != GL_ENCODED) {
    lock.unlock();
    const int64_t size = Transcoder::size(file, length, form);
    lock.lock();
    if (!has_room(cost(size))) {
      return nullptr;
    }
  }
  if (!claim(lock, coming)) {
    return slots_[index].load(std::memory_order_relaxed) ? kept() : nullptr;
  }
  if (form != GL_ENCODED) {
    lock.unlock();
    transcoder.run(&file, &length, form);
    lock.lock();
  }
  *kept_length = length;
  blob = add(lock, index, file, length);
  coming.kept = blob != nullptr;
  return blob;
}

const uint8_t* Store::add(Lock& lock, int64_t index, const uint8_t* blob, int64_t length) {
  if (length > kLargestBlob || !has_room(cost(length))) {
    return nullptr;
  }
  Block* block;
  uint8_t* place = reserve(static_cast<size_t>(length), &block);
  block->copying++;  // from here on nothing is thrown until it is less again
  count(cost(length));
  added_ = locks_ ? now() : 0;
  lock.unlock();
  memcpy(place, blob, length);
  const uint32_t sum = folder_.empty() ? 0 : crc32c(place, length);
  lock.lock();
  block->copying--;
  changed_.notify_all();
  block->records.emplace_back(block, place, index, length, sum, Record::kSound);
  publish(block->records.back());
  if (locks_ && kept_ == count_) {
    seal();  // other processes need not wait for it
  }
  try {
    write_due(lock);
  } catch (const std::exception& error) {  // the blob is kept all the same
    say(error.what());
  }
  return place;
}

bool Store::has_room(int64_t bytes) {
  const int64_t held = common_ ? common_bytes.load() : bytes_, head = locks_ ? static_cast<int64_t>(kHeadBytes) : 0;
  const bool room = !full_ && (!budget_ || held + bytes + head <= budget_);
  refused_ += !room;
  return room;
}

// What a blob takes of the budget: in a folder it is that of files.
int64_t Store::cost(int64_t length) const {
  return static_cast<int64_t>(aligned(static_cast<size_t>(length)) + (locks_ ? kRowBytes : 0));
}

void Store::count(int64_t bytes) {
  bytes_ += bytes;
  common_bytes += common_ ? bytes : 0;
}

uint8_t* Store::reserve(size_t length, Block** block) {
  if (filling_ && filling_->records.size() >= kMostRecords) {
    seal();
  }
  uint8_t* place = filling_ ? filling_->reserve(length) : nullptr;
  if (!place) {
    const size_t usual = std::clamp(static_cast<size_t>(bytes_ / kBlocks), kBlock, kLargestBlock);
    std::unique_ptr<Block> next(new Block(std::max(usual, length)));
    blocks_.push_back(std::move(next));
    seal();
    filling_ = blocks_.back().get();
    count(locks_ ? static_cast<int64_t>(kHeadBytes) : 0);
    place = filling_->reserve(length);
  }
  *block = filling_;
  return place;
}

// No more is put into the block that is being filled.
void Store::seal() {
  if (filling_) {
    filling_->sealed = true;
    filling_ = nullptr;
  }
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
  if (budget < 0 && locks_) {
    fail(GL_BAD_CALL, "a budget of %lld bytes", static_cast<long long>(budget));
  }
  Lock lock(lock_);
  const bool common = budget < 0;
  common_bytes += common == common_ ? 0 : common ? bytes_ : -bytes_;
  common_ = common;
  budget_ = std::abs(budget);
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
  if (locks_) {
    locks_->release_all();
  }
  kept_ = 0;
  count(-bytes_);
  damaged_ = refused_ = 0;
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
