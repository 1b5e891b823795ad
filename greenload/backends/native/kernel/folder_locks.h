// How processes that fill one folder agree on who keeps what.
#pragma once
#include <cstdint>
#include <mutex>
#include <string>

namespace greenload {

// Locks on bytes of a file in the folder: they end with their process, however it ends. Where a file system has no
// locks, each process does as if it were alone: then two may keep the same samples.
class FolderLocks {
 public:
  explicit FolderLocks(const std::string& folder);
  ~FolderLocks();
  FolderLocks(const FolderLocks&) = delete;
  FolderLocks& operator=(const FolderLocks&) = delete;

  // Whether no other process has claimed a sample: then it is this one's until it is released.
  bool claim(int64_t index);
  void release(int64_t index);
  void release_all();
  // A number that changes with each block that a process adds to the folder.
  int64_t additions() const;

  // One thread of one process at a time has it: it alone adds files to the folder, or removes them.
  class Turn {
   public:
    // Waits for others; throws a Failure where that takes longer than so many milliseconds.
    Turn(FolderLocks& locks, int64_t patience);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    // Tells the other processes of a block.
    void added();

   private:
    FolderLocks& locks_;
    std::unique_lock<std::mutex> own_;
  };

 private:
  bool lock(int64_t byte);
  void unlock(int64_t byte, int64_t count);
  bool current() const;
  bool open_anew();

  const std::string folder_;
  int file_ = -1;    // its number stays as it is; −1: there is none
  std::mutex turn_;  // of this process's threads: the file's locks know only processes
};

}  // namespace greenload
