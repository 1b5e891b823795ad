#include "merge.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "files.h"

namespace greenload {

namespace {

constexpr int64_t kSmall = int64_t{4} << 20, kLargest = int64_t{64} << 20;  // bytes of a file
constexpr size_t kFew = 8;

using Names = std::unordered_set<std::string>;

struct Files {
  std::vector<std::string> ailing, small, large;  // paths
};

Files files_of(const std::string& folder, const Names& ailing) {
  Files files;
  std::vector<std::string> names;
  if (!names_in(folder, kWritten, &names)) {
    return files;
  }
  for (const std::string& name : names) {
    const std::string path = folder + "/" + name;
    struct stat status;
    if (ailing.count(name)) {
      files.ailing.push_back(path);
    } else if (stat(path.c_str(), &status) == 0) {
      (status.st_size < kSmall ? files.small : files.large).push_back(path);
    }
  }
  std::sort(files.small.begin(), files.small.end());
  return files;
}

// Blocks whose files are to go, and what of them stays: sound blobs of which no other block has a sound one.
struct Merging {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<const Record*> records;
  int64_t bytes = 0;
};

using Indices = std::unordered_set<int64_t>;

// Samples of which blocks have a sound blob: only of those asked for, as each is read.
Indices sound_in(const std::vector<std::string>& paths, const Block::Identity& identity, const Indices& asked) {
  Indices sound;
  Block::Found found;
  for (const std::string& path : paths) {
    if (const auto block = Block::open(path, identity, &found)) {
      for (const Record& record : block->records) {
        if (asked.count(record.index) && !sound.count(record.index) && block->look(record) == Record::kSound) {
          sound.insert(record.index);
        }
      }
    }
  }
  return sound;
}

Merging gather(const Files& files, const Block::Identity& identity) {
  std::vector<std::string> paths = files.ailing, others = files.large;
  std::vector<std::string>& of_small = files.small.size() > kFew ? paths : others;
  of_small.insert(of_small.end(), files.small.begin(), files.small.end());
  std::vector<std::unique_ptr<Block>> blocks;
  Indices indices;
  Block::Found found;
  for (const std::string& path : paths) {
    if (auto block = Block::open(path, identity, &found)) {
      for (const Record& record : block->records) {
        indices.insert(record.index);
      }
      blocks.push_back(std::move(block));
    }
  }
  Indices elsewhere = sound_in(others, identity, indices);
  Merging merging;
  for (auto& block : blocks) {
    if (!merging.blocks.empty() && merging.bytes + block->bytes() > kLargest) {
      continue;
    }
    for (const Record& record : block->records) {
      record.state = block->look(record);
    }
    const auto unread = [](const Record& record) { return record.state == Record::kUnchecked; };
    if (std::any_of(block->records.begin(), block->records.end(), unread)) {
      continue;  // it may be readable later
    }
    for (const Record& record : block->records) {
      if (record.state == Record::kSound && elsewhere.insert(record.index).second) {
        merging.records.push_back(&record);
        merging.bytes += static_cast<int64_t>(aligned(static_cast<size_t>(record.length)));
      }
    }
    merging.blocks.push_back(std::move(block));
  }
  return merging;
}

bool write(const Merging& merging, const std::string& folder, const Block::Identity& identity) {
  if (merging.records.empty()) {
    return true;
  }
  Block merged(static_cast<size_t>(merging.bytes));
  for (const Record* record : merging.records) {
    uint8_t* place = merged.reserve(static_cast<size_t>(record->length));
    memcpy(place, record->blob, static_cast<size_t>(record->length));
    merged.records.emplace_back(&merged, place, record->index, record->length, record->crc, Record::kSound);
  }
  std::string reason;
  return leaves_reserve(folder, merging.bytes) && merged.write(folder, unused_name(), identity, &reason);
}

}  // namespace

bool may_merge(const std::string& folder, const Names& ailing) {
  const Files files = files_of(folder, ailing);
  return files.small.size() > kFew || !files.ailing.empty();
}

void merge_blocks(const std::string& folder, const Block::Identity& identity, const Names& ailing) {
  const Files files = files_of(folder, ailing);
  const Merging merging = gather(files, identity);
  if ((merging.blocks.size() > kFew || !files.ailing.empty()) && write(merging, folder, identity)) {
    for (const auto& block : merging.blocks) {
      unlink(block->path().c_str());
    }
  }
}

}  // namespace greenload
