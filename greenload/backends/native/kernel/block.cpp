#include "block.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <random>
#include <vector>

#include "crc32c.h"
#include "failure.h"
#include "files.h"

namespace greenload {

namespace {

constexpr char kMagic[8] = {'G', 'L', 'B', 'L', 'O', 'C', 'K', '\n'};
constexpr uint32_t kVersion = 1;
constexpr int kAttempts = 8;
constexpr size_t kNameDigits = 16;

struct Head {
  char magic[8];
  uint32_t version, crc;  // the latter of what follows here, and of the table
  uint8_t key[kKeyBytes];
  int64_t count, records, table, size;  // of samples; of blobs; where the table begins; of the file
};
static_assert(sizeof(Head) <= kHeadBytes, "the head has its place");

struct Row {
  int64_t index, offset, length;
  uint32_t crc, unused;
};
static_assert(sizeof(Row) == kRowBytes, "a row has its size");

size_t pages(size_t bytes) {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

uint32_t sum_of(const Head& head, const std::vector<Row>& rows) {
  const size_t from = offsetof(Head, key);
  const uint32_t sum = crc32c(reinterpret_cast<const uint8_t*>(&head) + from, sizeof head - from);
  return crc32c(rows.data(), rows.size() * sizeof(Row), sum);
}

// Nobody writes to a block that is there: those who read it are mapped to it.
bool protect(int file) {
  struct stat status;
  return fstat(file, &status) == 0 && (fchmod(file, status.st_mode & 0555) == 0 || errno == EPERM || errno == ENOTSUP);
}

const char* remedy(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "make room on the disk, or name another folder";
    case EFBIG: return "allow larger files (ulimit -f), or name another folder";
    default: return "allow writing there, or name another folder";
  }
}

// Brings pages into memory; false, and errno, where reading them would end the process.
bool readable(const uint8_t* from, size_t length) {
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(from) / page * page;
  return madvise(reinterpret_cast<void*>(begin), reinterpret_cast<uintptr_t>(from) + length - begin,
                 MADV_POPULATE_READ) == 0 ||
         errno == EINVAL;  // an older kernel
}

}  // namespace

Block::Block(size_t room) : size_(pages(kHeadBytes + room)), used_(kHeadBytes) {
  void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    throw std::bad_alloc();
  }
  base_ = static_cast<uint8_t*>(memory);
}

Block::~Block() {
  if (base_) {
    munmap(base_, size_);
  }
}

uint8_t* Block::reserve(size_t length) {
  if (length > size_ - used_) {
    return nullptr;
  }
  uint8_t* place = base_ + used_;
  used_ = std::min(size_, aligned(used_ + length));
  return place;
}

namespace {

// The head and the table of a block's file; kTaken where they are sound, and of the identity.
Block::Found read_table(int file, int64_t size, const Block::Identity& identity, Head* head, std::vector<Row>* rows) {
  if (!read_at(file, head, sizeof *head, 0)) {
    return errno ? Block::kUnreadable : Block::kBroken;
  }
  if (memcmp(head->magic, kMagic, sizeof kMagic) != 0) {
    return Block::kBroken;
  }
  if (head->version != kVersion) {
    return Block::kOtherVersion;
  }
  const int64_t most = (size - static_cast<int64_t>(kHeadBytes)) / static_cast<int64_t>(sizeof(Row));
  if (head->size != size || head->records < 1 || head->records > most ||
      head->table != head->size - head->records * static_cast<int64_t>(sizeof(Row)) ||
      head->table < static_cast<int64_t>(kHeadBytes)) {
    return Block::kBroken;
  }
  rows->resize(head->records);
  if (!read_at(file, rows->data(), rows->size() * sizeof(Row), head->table)) {
    return errno ? Block::kUnreadable : Block::kBroken;
  }
  if (head->crc != sum_of(*head, *rows)) {
    return Block::kBroken;
  }
  for (const Row& row : *rows) {
    if (row.index < 0 || row.index >= head->count || row.length < 1 || row.length > head->table ||
        row.offset < static_cast<int64_t>(kHeadBytes) || row.offset > head->table - row.length) {
      return Block::kBroken;
    }
  }
  const bool own = !identity.key ||
                   (memcmp(head->key, identity.key, kKeyBytes) == 0 && head->count == identity.count);
  return own ? Block::kTaken : Block::kForeign;
}

}  // namespace

std::unique_ptr<Block> Block::open(const std::string& path, const Identity& identity, Found* found) {
  OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (file.number < 0 || fstat(file.number, &status) != 0) {
    *found = errno == ENOENT ? kGone : kUnreadable;
    return nullptr;
  }
  if (!S_ISREG(status.st_mode)) {
    *found = kUnreadable;
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    return nullptr;
  }
  Head head;
  std::vector<Row> rows;
  *found = read_table(file.number, status.st_size, identity, &head, &rows);
  if (*found != kTaken) {
    return nullptr;
  }
  std::unique_ptr<Block> block(new Block());
  void* memory = mmap(nullptr, head.table, PROT_READ, MAP_SHARED, file.number, 0);
  if (memory == MAP_FAILED) {
    *found = kUnreadable;
    return nullptr;
  }
  block->base_ = static_cast<uint8_t*>(memory);
  block->size_ = block->used_ = static_cast<size_t>(head.table);
  block->path_ = path;
  block->name = path.substr(path.rfind('/') + 1);
  block->device_ = status.st_dev;
  block->file_ = status.st_ino;
  block->sealed = block->writing = block->written = true;
  for (const Row& row : rows) {
    const uint8_t* blob = block->base_ + row.offset;
    block->records.emplace_back(block.get(), blob, row.index, row.length, row.crc, Record::kUnchecked);
  }
  return block;
}

bool Block::write(const std::string& folder, const std::string& file_name, const Identity& identity,
                  std::string* reason) {
  std::vector<Row> rows;
  for (const Record& record : records) {
    rows.push_back({record.index, record.blob - base_, record.length, record.crc, 0});
  }
  Head head = {};
  memcpy(head.magic, kMagic, sizeof kMagic);
  head.version = kVersion;
  memcpy(head.key, identity.key, kKeyBytes);
  head.count = identity.count;
  head.records = static_cast<int64_t>(rows.size());
  head.table = static_cast<int64_t>(used_);
  head.size = static_cast<int64_t>(used_ + rows.size() * sizeof(Row));
  head.crc = sum_of(head, rows);
  memcpy(base_, &head, sizeof head);
  path_ = folder + "/" + file_name;
  for (int attempt = 1;; attempt++) {
    const std::string part = path_ + "-" + std::to_string(attempt) + kUnfinished;
    OpenFile file(::open(part.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
    if (file.number >= 0 && write_all(file.number, base_, used_) &&
        write_all(file.number, rows.data(), rows.size() * sizeof(Row)) && fdatasync(file.number) == 0 &&
        protect(file.number) && rename(part.c_str(), path_.c_str()) == 0) {
      name = file_name;
      map(file.number);
      return true;
    }
    int error = errno;
    if (file.number >= 0) {
      unlink(part.c_str());
    }
    // Somebody cleared the folder, or removed it: it can be made anew.
    const bool gone = error == ENOENT, again = gone && make_folder(folder);
    error = gone && !again ? errno : error;
    if (!again || attempt == kAttempts) {
      *reason = "can't write " + file_name + ": " + strerror(error) + "; no more samples are kept: " + remedy(error);
      return false;
    }
  }
}

// Puts the file that holds what is in memory in its place: readers notice nothing. Where that fails it stays in memory,
// and is in the file for others.
void Block::map(int file) {
  struct stat status;
  const size_t mapped = pages(used_);
  void* memory = fstat(file, &status) == 0 ? mmap(nullptr, mapped, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
  if (memory == MAP_FAILED) {
    return;
  }
  // In two steps: had the place been given up for a mapping that then fails, its readers would find nothing there.
  if (mremap(memory, mapped, mapped, MREMAP_MAYMOVE | MREMAP_FIXED, base_) == MAP_FAILED) {
    munmap(memory, mapped);
    return;
  }
  device_ = status.st_dev;
  file_ = status.st_ino;
  if (mapped < size_) {
    munmap(base_ + mapped, size_ - mapped);
  }
  size_ = mapped;
}

Record::State Block::look(const Record& record) const {
  if (written && (!readable(record.blob, static_cast<size_t>(record.length)) || cut())) {
    return cut() ? Record::kDamaged : Record::kUnchecked;
  }
  return crc32c(record.blob, record.length) == record.crc ? Record::kSound : Record::kDamaged;
}

bool Block::cut() const {
  struct stat status;
  // By another name, or without one, a file can't be looked at: then it is mapped, and whole.
  return file_ && stat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == file_ &&
         status.st_size < static_cast<off_t>(used_);
}

bool Block::ends_early() const { return !readable(base_ + used_ - 1, 1); }

std::string unused_name() {
  static thread_local std::random_device device;
  char name[32];
  snprintf(name, sizeof name, "%08x%08x", device(), device());
  return std::string(name) + kWritten;
}

bool is_own_name(const std::string& name) {
  const size_t digits = name.find_first_not_of("0123456789abcdef");
  return digits == kNameDigits && name.compare(digits, strlen(kWritten), kWritten) == 0;
}

void check_block(const char* path, int64_t* sound, int64_t* damaged) {
  Block::Found found;
  const std::unique_ptr<Block> block(Block::open(path, {nullptr, 0}, &found));
  if (!block) {
    fail(GL_BAD_FILE, "%s", found == Block::kOtherVersion ? "it is of another version"
                            : found == Block::kBroken     ? "it is damaged"
                                                          : strerror(errno));
  }
  for (const Record& record : block->records) {
    const Record::State state = block->look(record);
    if (state == Record::kUnchecked) {
      fail(GL_BAD_FILE, "a blob of it can't be read now");
    }
    (state == Record::kSound ? *sound : *damaged)++;
  }
}

void remove_leftovers(const std::string& folder) {
  std::vector<std::string> names;
  names_in(folder, kUnfinished, &names);
  for (const std::string& name : names) {
    if (is_own_name(name)) {
      unlink((folder + "/" + name).c_str());
    }
  }
}

}  // namespace greenload
