// What a store has to do with files.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "failure.h"
#include "files.h"
#include "merge.h"
#include "store.h"

namespace greenload {

namespace {

constexpr int64_t kPause = 1'000'000'000;  // nanoseconds between looks at the files that are mapped
// Nanoseconds after which a block that is no longer filled is written: other processes wait for its samples.
constexpr int64_t kIdle = 5'000'000'000;
// Milliseconds that a thread waits for other processes: to write a block, to merge some, to remove what is left behind.
constexpr int64_t kToWrite = 10'000, kToMerge = 1'000, kToTidy = 0;
constexpr int64_t kLost = std::numeric_limits<int64_t>::max();
constexpr int kLooks = 3;
// Bytes of redundant blocks that a process removes as it ends: it reads them, and their other copies.
constexpr int64_t kMostRedundant = int64_t{4} << 30;

}  // namespace

int64_t Store::now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// Looks once a second whether files that are mapped have become shorter, and whether a block is to be written.
void Store::watch() {
  int64_t before = watched_.load(std::memory_order_relaxed);
  const int64_t time = now();
  if (time - before < kPause || !watched_.compare_exchange_strong(before, time)) {
    return;
  }
  if (forked()) {
    child_ = true;
    return;
  }
  Lock lock(lock_);
  for (const auto& block : blocks_) {
    if (block->written && !block->lost && block->cut()) {
      drop(*block);
    }
  }
  if (filling_ && time - added_ >= kIdle) {
    seal();
    write_due(lock);
  }
}

// In a child process, where a thread of the parent may have held the lock: whether a block's file has become shorter.
// It looks once a second. What the parent was writing isn't looked at: its path may be half made.
bool Store::lost_in_child(Block& block) const {
  if (!block.written) {
    return false;
  }
  int64_t before = block.watched.load(std::memory_order_relaxed);
  const int64_t time = now();
  // The parent may have removed the file since: then only what is mapped tells.
  if (time - before >= kPause && block.watched.compare_exchange_strong(before, time) &&
      (block.cut() || block.ends_early())) {
    block.watched = kLost;
  }
  return block.watched.load(std::memory_order_relaxed) == kLost;
}

void Store::drop(Block& block) {
  block.lost = true;
  damaged_++;
  remove(block.path(), block.name, "was made shorter");
  for (const Record& record : block.records) {
    record.state = Record::kDamaged;
    replaced(record);
  }
}

void Store::remove(const std::string& path, const std::string& name, const char* fault) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) {
    return say(name + " " + fault + ", and was removed; its samples are read and kept anew");
  }
  const std::string reason = strerror(errno);
  say(name + " " + fault + ", and can't be removed: " + reason + "; its samples are read anew: allow that, or remove it");
}

void Store::write_due(Lock& lock) {
  if (!locks_) {
    return;
  }
  for (size_t i = 0; i < blocks_.size() && !full_; i++) {
    Block& block = *blocks_[i];
    if (block.sealed && !block.writing && !block.copying && !block.records.empty()) {
      write(lock, block);
    }
  }
}

void Store::write(Lock& lock, Block& block) {
  const std::string name = unused_name();
  std::string reason;
  bool written = false;
  names_.insert(name);  // before there is such a file: it isn't taken in as another's
  block.writing = true;
  writers_++;
  lock.unlock();
  try {
    written = write_in_turn(lock, block, name, &reason);
  } catch (const Failure& failure) {
    reason = failure.reason;
    reason += "; no more samples are kept until then";
  } catch (const std::exception& error) {
    reason = error.what();
  }
  if (!lock.owns_lock()) {
    lock.lock();
  }
  writers_--;
  changed_.notify_all();
  if (written) {
    block.written = true;
    return;
  }
  names_.erase(name);
  block.writing = false;  // it stays in memory, and is tried again by flush()
  full_ = true;
  say(reason);
}

// Writes a block where no other process writes one meanwhile; false where it can't be, and `reason` says why.
bool Store::write_in_turn(Lock& lock, Block& block, const std::string& name, std::string* reason) {
  FolderLocks::Turn turn(*locks_, kToWrite);
  remove_leftovers(folder_);
  lock.lock();
  take_in();
  const bool room = may_write(block, reason);
  lock.unlock();
  if (!room || !block.write(folder_, name, identity(), reason)) {
    return false;
  }
  turn.added();
  for (const Record& record : block.records) {
    locks_->release(record.index);
  }
  return true;
}

// Whether there is room for a block in the folder, of which other processes may have taken some.
bool Store::may_write(const Block& block, std::string* reason) const {
  int64_t bytes = block.file_bytes();
  if (!budget_ && !leaves_reserve(folder_, bytes)) {
    *reason = "the disk is nearly full; no more samples are kept, unless a budget of bytes is given";
    return false;
  }
  for (const auto& other : blocks_) {
    bytes += other->written && !other->removed ? other->file_bytes() : 0;
  }
  if (budget_ && bytes > budget_) {
    *reason = "the budget of " + std::to_string(budget_) + " bytes is used up; no more samples are kept";
    return false;
  }
  return true;
}

// Removes what writers that were killed have left behind, unless another process writes now.
void Store::tidy() {
  try {
    FolderLocks::Turn turn(*locks_, kToTidy);
    remove_leftovers(folder_);
  } catch (const Failure&) {
  }
}

// What others have written since, and how much there is in all.
void Store::take_in() {
  additions_ = locks_->additions();  // before the look: what comes after it changes the number
  std::unordered_set<std::string> there;
  bool gone = true;
  for (int look = 0; look < kLooks && gone; look++) {  // once more where blocks were merged in between
    gone = false;
    std::vector<std::string> names;
    if (!names_in(folder_, kWritten, &names) && errno != ENOENT) {  // where it was removed there is none
      return say(std::string("the folder can't be read now: ") + strerror(errno));
    }
    there = {names.begin(), names.end()};
    for (const std::string& name : names) {
      gone |= !take_in(name);
    }
  }
  bytes_ = 0;
  for (const auto& block : blocks_) {
    block->removed = block->written && !there.count(block->name);
    bytes_ += block->removed ? 0 : block->file_bytes();
  }
}

// A file, unless it is known; false where it is gone.
bool Store::take_in(const std::string& name) {
  if (names_.count(name)) {
    return true;
  }
  const std::string path = folder_ + "/" + name;
  Block::Found found;
  std::unique_ptr<Block> block = Block::open(path, identity(), &found);
  switch (found) {
    case Block::kGone: return false;
    case Block::kUnreadable: say(name + " can't be read now: " + strerror(errno)); return true;
    case Block::kOtherVersion: say(name + " is of another version, and isn't used"); break;
    case Block::kBroken:
      if (!is_own_name(name)) {
        say(name + " is no block, and isn't used");
        break;
      }
      damaged_++;
      remove(path, name, "is damaged");
      break;
    case Block::kForeign: break;
    case Block::kTaken: break;
  }
  names_.insert(name);
  if (block) {
    blocks_.push_back(std::move(block));
    for (const Record& record : blocks_.back()->records) {
      publish(record);
    }
  }
  return true;
}

void Store::flush() {
  if (!locks_ || forked()) {
    return;
  }
  Lock lock(lock_);
  full_ = false;
  if (filling_) {
    Block* sealed = filling_;
    seal();
    changed_.wait(lock, [&] { return sealed->copying == 0; });
  }
  write_due(lock);
  changed_.wait(lock, [&] { return writers_ == 0; });
  take_in();
}

// Names of blocks of which other files have half or more: processes that fill a folder in step keep the same samples.
void Store::add_redundant(std::unordered_set<std::string>* names) const {
  if (spares_.empty()) {
    return;
  }
  std::vector<const Block*> files;
  std::unordered_map<int64_t, int> copies;  // of samples that have more than one record
  for (const auto& block : blocks_) {
    if (!block->written || block->lost || block->removed) {
      continue;
    }
    files.push_back(block.get());
    for (const Record& record : block->records) {
      if (record.state != Record::kDamaged && spares_.count(record.index)) {
        copies[record.index]++;
      }
    }
  }
  // The small ones go first: then least is written anew.
  const auto smaller = [](const Block* block, const Block* other) { return block->bytes() < other->bytes(); };
  std::sort(files.begin(), files.end(), smaller);
  int64_t bytes = 0;
  for (const Block* block : files) {
    int64_t twice = 0;
    for (const Record& record : block->records) {
      const auto own = copies.find(record.index);
      if (own != copies.end() && own->second > 1 && record.state != Record::kDamaged) {
        twice += static_cast<int64_t>(aligned(static_cast<size_t>(record.length)));
      }
    }
    if (2 * twice < block->bytes() || bytes + block->bytes() > kMostRedundant || !names->insert(block->name).second) {
      continue;
    }
    bytes += block->bytes();
    for (const Record& record : block->records) {
      const auto own = copies.find(record.index);
      if (own != copies.end() && record.state != Record::kDamaged) {
        own->second--;
      }
    }
  }
}

void Store::finish() {
  if (!locks_ || forked()) {
    return;
  }
  flush();
  Lock lock(lock_);
  std::unordered_set<std::string> ailing = ailing_;
  add_redundant(&ailing);
  lock.unlock();
  if (may_merge(folder_, ailing)) {
    FolderLocks::Turn turn(*locks_, kToMerge);
    merge_blocks(folder_, identity(), ailing);
  }
}

}  // namespace greenload
