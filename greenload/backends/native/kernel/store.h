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

namespace greenload {

class Store {
 public:
  // As gl_store_open. Throws a Failure where the folder can't be used.
  Store(const char* folder, const uint8_t* key, int64_t count, int64_t budget);
  // Writes what isn't written.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  const uint8_t* get(int64_t index, int64_t* length);
  bool put(int64_t index, const uint8_t* blob, int64_t length);
  void flush();
  void state(gl_store_state_t* state);

 private:
  using Lock = std::unique_lock<std::mutex>;

  // A child process reads on; what it would add belongs to its parent.
  bool forked() const;
  const Record* checked(const Record* record);
  uint8_t* reserve(size_t length, Block** block);
  void publish(const Record& record);
  // Writes blocks that are full and that no thread fills in any more. The lock is given up meanwhile.
  void write_due(Lock& lock);
  void take_in(Lock& lock);
  void say(const std::string& trouble);

  const std::string folder_;  // of the key; empty: in RAM
  uint8_t key_[kKeyBytes];
  const int64_t count_, budget_;
  const pid_t process_;
  const std::unique_ptr<std::atomic<const Record*>[]> slots_;
  std::atomic<int64_t> kept_{0};

  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Block>> blocks_;
  Block* filling_ = nullptr;
  std::unordered_set<int64_t> coming_;                        // indexes that threads are filling in
  std::unordered_multimap<int64_t, const Record*> spares_;    // of indexes that have a record already
  std::unordered_set<std::string> names_;                     // of files that were looked at
  int64_t bytes_ = 0, damaged_ = 0, refused_ = 0, looked_ = 0;
  int writers_ = 0;
  bool full_ = false;
  std::string trouble_;
};

}  // namespace greenload
