#include "folder_locks.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "failure.h"
#include "files.h"

namespace greenload {

namespace {

constexpr char kName[] = "/lock";
constexpr int64_t kTurn = 0, kSamples = 1, kToTheEnd = 0;  // bytes of the file that are locked; a length of fcntl's
constexpr auto kPause = std::chrono::milliseconds(2);

int open_lock(const std::string& folder) {
  const std::string path = folder + kName;
  const auto opened = [&] { return open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_NONBLOCK, 0666); };
  const int file = opened();
  return file < 0 && errno == ENOENT && make_folder(folder) ? opened() : file;
}

// Of the process, not of the open file: a child that outlives its parent doesn't hold them.
bool set_lock(int file, short kind, int64_t byte, int64_t count) {
  struct flock lock = {};
  lock.l_type = kind;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = count;
  return fcntl(file, F_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES);
}

}  // namespace

FolderLocks::FolderLocks(const std::string& folder) : folder_(folder), file_(open_lock(folder)) {}

FolderLocks::~FolderLocks() {
  if (file_ >= 0) {
    close(file_);
  }
}

bool FolderLocks::lock(int64_t byte) { return file_ < 0 || set_lock(file_, F_WRLCK, byte, 1); }

void FolderLocks::unlock(int64_t byte, int64_t count) {
  if (file_ >= 0) {
    set_lock(file_, F_UNLCK, byte, count);
  }
}

bool FolderLocks::claim(int64_t index) { return lock(kSamples + index); }
void FolderLocks::release(int64_t index) { unlock(kSamples + index, 1); }
void FolderLocks::release_all() { unlock(kSamples, kToTheEnd); }

int64_t FolderLocks::additions() const {
  int64_t number = 0;
  return read_at(file_, &number, sizeof number, 0) ? number : 0;
}

// Whether others that open the file find the same one.
bool FolderLocks::current() const {
  struct stat status;
  return file_ < 0 || fstat(file_, &status) != 0 || status.st_nlink > 0;
}

// Where the folder was cleared. What was claimed in the file of before isn't any more.
bool FolderLocks::open_anew() {
  const int file = open_lock(folder_);
  if (file < 0) {
    return false;
  }
  dup3(file, file_, O_CLOEXEC);
  close(file);
  return true;
}

FolderLocks::Turn::Turn(FolderLocks& locks, int64_t patience) : locks_(locks), own_(locks.turn_) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience);
  while (true) {
    if (locks_.lock(kTurn)) {
      if (locks_.current() || !locks_.open_anew()) {
        return;
      }
    } else if (std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(kPause);
    } else {
      fail(GL_BAD_CALL, "another process holds the folder's lock for too long");
    }
  }
}

FolderLocks::Turn::~Turn() { locks_.unlock(kTurn, 1); }

void FolderLocks::Turn::added() {
  const int64_t number = locks_.additions() + 1;
  if (locks_.file_ < 0 || pwrite(locks_.file_, &number, sizeof number, 0) != sizeof number) {
    return;  // others notice it when they next write a block
  }
}

}  // namespace greenload
