// A store of blobs by sample index: gl_store. Blobs are only added, and stay where they are, so that readers take no
// lock. In a folder, blocks of blobs become files of their own when they are full.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "abi.h"
#include "block.h"
#include "folder_locks.h"

namespace greenload {

class Store {
 public:
  // `folder`: of the key, which is there; empty: in RAM. Throws a Failure for numbers that can't be.
  Store(const std::string& folder, const uint8_t* key, int64_t count, int64_t budget);
  // Finishes it.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  const uint8_t* get(int64_t index, int64_t* length);
  bool put(int64_t index, const uint8_t* blob, int64_t length);
  // As gl_store_keep: null for want of room. Throws where nothing can be kept for another reason.
  const uint8_t* keep(int64_t index, const uint8_t* file, int64_t length, int32_t form, int64_t* kept_length);
  void flush();
  // Flushes it, and tidies up its folder.
  void finish();
  void forget();
  void set_budget(int64_t budget);
  void state(gl_store_state_t* state);
  // Whether this is a child of the process that made it: it reads on; what it would add belongs to its parent.
  bool forked() const;

 private:
  static int64_t now();  // of a coarse clock, in nanoseconds: it is read for each blob that is got

  using Lock = std::unique_lock<std::mutex>;
  using Slot = std::atomic<const Record*>;
  class Coming;

  // What has the lock as an argument may give it up meanwhile; what says nothing of it is called with it held.
  const Record* checked(const Record* record);  // takes it
  const Record* replaced(const Record& damaged);
  void watch();  // takes it
  bool lost_in_child(Block& block) const;  // doesn't need it
  void drop(Block& block);
  // Keeps a sample that is in coming_; null where there is no room.
  const uint8_t* add(Lock& lock, int64_t index, const uint8_t* blob, int64_t length);
  // Whether no other process keeps a sample, or is about to. Gives the lock up meanwhile.
  bool claim(Lock& lock, Coming& coming);
  bool has_room(int64_t bytes);
  int64_t cost(int64_t length) const;
  void count(int64_t bytes);
  uint8_t* reserve(size_t length, Block** block);
  void seal();
  void publish(const Record& record);
  // Writes blocks that are full and that no thread fills in any more.
  void write_due(Lock& lock);
  void write(Lock& lock, Block& block);
  bool write_in_turn(Lock& lock, Block& block, const std::string& name, std::string* reason);
  bool may_write(const Block& block, std::string* reason) const;
  void tidy();
  void take_in();
  bool take_in(const std::string& name);
  void add_redundant(std::unordered_set<std::string>* names) const;
  void say(const std::string& trouble);
  // Removes a block's file, and says so, or why it can't be removed.
  void remove(const std::string& path, const std::string& name, const char* fault);
  Block::Identity identity() const { return {key_, count_}; }

  const std::string folder_;  // of the key; empty: in RAM
  uint8_t key_[kKeyBytes];
  const int64_t count_;
  const pid_t process_;
  const std::unique_ptr<Slot[]> slots_;
  const std::unique_ptr<FolderLocks> locks_;  // null: in RAM
  std::atomic<int64_t> kept_{0}, watched_{0};
  std::atomic<bool> child_{false};  // watch() found that this is one: to ask forked() for each blob would cost too much

  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<std::unique_ptr<Block>> forgotten_;  // readers that came before may still be at them
  Block* filling_ = nullptr;
  std::unordered_set<int64_t> coming_;                      // indexes that threads are filling in
  std::unordered_multimap<int64_t, const Record*> spares_;  // of indexes that have a record already
  std::unordered_set<std::string> names_;                   // of files that are of this, or that aren't to be used
  std::unordered_set<std::string> ailing_;                  // of files in which a blob is damaged
  int64_t budget_ = 0, bytes_ = 0, damaged_ = 0, refused_ = 0;
  bool common_ = false;                // its budget is that of all stores of the process of which this is true
  int64_t additions_ = 0, added_ = 0;  // FolderLocks::additions as it was taken in; when a sample was last added here
  int writers_ = 0;
  bool full_ = false;
  char trouble_[GL_REASON] = "";
};

}  // namespace greenload
