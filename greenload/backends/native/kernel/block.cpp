#include "block.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
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
constexpr char kWritten[] = ".block", kUnfinished[] = ".part";

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

size_t pages(size_t bytes) {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

uint32_t sum_of(const Head& head, const std::vector<Row>& rows) {
  const size_t from = offsetof(Head, key);
  const uint32_t sum = crc32c(reinterpret_cast<const uint8_t*>(&head) + from, sizeof head - from);
  return crc32c(rows.data(), rows.size() * sizeof(Row), sum);
}

std::string unused_name() {
  static thread_local std::random_device device;
  char name[32];
  snprintf(name, sizeof name, "%08x%08x", device(), device());
  return name;
}

// A new file that this process has locked for as long as it is open: one that isn't locked was left by a writer that
// ended.
int locked_file(const std::string& path) {
  const int file = open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666);
  if (file < 0) {
    return -1;
  }
  struct stat status;
  if (flock(file, LOCK_EX | LOCK_NB) != 0 || fstat(file, &status) != 0 || status.st_nlink == 0) {
    close(file);  // another process took it for left behind, in between
    errno = EAGAIN;
    return -1;
  }
  return file;
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

Block* Block::open(const std::string& path, const Identity& identity, Found* found) {
  *found = kBroken;
  OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status;
  Head head;
  if (file.number < 0 || fstat(file.number, &status) != 0) {
    *found = kForeign;  // it is being removed, or can't be read
    return nullptr;
  }
  if (!read_at(file.number, &head, sizeof head, 0) || memcmp(head.magic, kMagic, sizeof kMagic) != 0) {
    return nullptr;
  }
  if (head.version != kVersion ||
      (identity.key && (memcmp(head.key, identity.key, kKeyBytes) != 0 || head.count != identity.count))) {
    *found = kForeign;
    return nullptr;
  }
  const int64_t most = (status.st_size - static_cast<int64_t>(kHeadBytes)) / static_cast<int64_t>(sizeof(Row));
  if (head.size != status.st_size || head.records < 1 || head.records > most ||
      head.table != head.size - head.records * static_cast<int64_t>(sizeof(Row)) ||
      head.table < static_cast<int64_t>(kHeadBytes)) {
    return nullptr;
  }
  std::vector<Row> rows(head.records);
  if (!read_at(file.number, rows.data(), rows.size() * sizeof(Row), head.table) || head.crc != sum_of(head, rows)) {
    return nullptr;
  }
  for (const Row& row : rows) {
    if (row.index < 0 || row.index >= head.count || row.length < 1 || row.length > head.table ||
        row.offset < static_cast<int64_t>(kHeadBytes) || row.offset > head.table - row.length) {
      return nullptr;
    }
  }
  void* memory = mmap(nullptr, head.table, PROT_READ, MAP_SHARED, file.number, 0);
  if (memory == MAP_FAILED) {
    throw std::bad_alloc();
  }
  std::unique_ptr<Block> block(new Block());
  block->base_ = static_cast<uint8_t*>(memory);
  block->size_ = block->used_ = static_cast<size_t>(head.table);
  block->sealed = block->writing = true;
  for (const Row& row : rows) {
    block->records.emplace_back(block->base_ + row.offset, row.index, row.length, row.crc, Record::kUnchecked);
  }
  *found = kTaken;
  return block.release();
}

bool Block::write(const std::string& folder, const Identity& identity, std::string* reason) {
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
  const std::string stem = unused_name(), part = folder + "/" + stem + kUnfinished;
  OpenFile file(locked_file(part));
  if (file.number < 0) {
    *reason = "can't create " + part + ": " + strerror(errno);
    return false;
  }
  // The file holds what is in memory when it takes its place: readers notice nothing.
  const bool done = write_all(file.number, base_, used_) &&
                    write_all(file.number, rows.data(), rows.size() * sizeof(Row)) && fdatasync(file.number) == 0 &&
                    rename(part.c_str(), (folder + "/" + stem + kWritten).c_str()) == 0;
  if (!done) {
    *reason = "can't write " + part + ": " + strerror(errno);
    unlink(part.c_str());
    return false;
  }
  name = stem + kWritten;
  const size_t mapped = pages(used_);
  if (mmap(base_, mapped, PROT_READ, MAP_SHARED | MAP_FIXED, file.number, 0) != MAP_FAILED) {
    if (mapped < size_) {
      munmap(base_ + mapped, size_ - mapped);
    }
    size_ = mapped;
  }  // else it stays in memory, and is in the file for others
  return true;
}

void check_block(const char* path, int64_t* sound, int64_t* damaged) {
  Block::Found found;
  const std::unique_ptr<Block> block(Block::open(path, {nullptr, 0}, &found));
  if (!block) {
    fail(GL_BAD_FILE, found == Block::kBroken ? "it is damaged" : "it is of another version, or can't be read");
  }
  for (const Record& record : block->records) {
    (crc32c(record.blob, record.length) == record.crc ? *sound : *damaged)++;
  }
}

void remove_leftovers(const std::string& folder) {
  for (const std::string& name : names_in(folder, kUnfinished)) {
    const std::string path = folder + "/" + name;
    OpenFile file(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (file.number >= 0 && flock(file.number, LOCK_EX | LOCK_NB) == 0) {
      unlink(path.c_str());
    }
  }
}

}  // namespace greenload
