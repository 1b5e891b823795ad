// A block of a store: blobs one behind another, in anonymous memory, or in a file that is mapped.
//
// The file: a head, the blobs, each at a multiple of kAlign, and a table of them. Numbers are of the machine.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

namespace greenload {

constexpr size_t kAlign = 64;
constexpr size_t kHeadBytes = 192, kRowBytes = 32;  // of a file: its head, and a row of its table
constexpr size_t kKeyBytes = 32;
constexpr char kWritten[] = ".block", kUnfinished[] = ".part";  // how names of files end

inline size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

class Block;

// A blob. It stays where it is for as long as its block.
struct Record {
  enum State { kUnchecked, kSound, kDamaged };
  Block* block;
  const uint8_t* blob;
  int64_t index, length;
  uint32_t crc;
  mutable std::atomic<int> state;

  Record(Block* block_, const uint8_t* blob_, int64_t index_, int64_t length_, uint32_t crc_, State state_)
      : block(block_), blob(blob_), index(index_), length(length_), crc(crc_), state(state_) {}
};

class Block {
 public:
  // Anonymous memory for `room` bytes of blobs at least. Throws std::bad_alloc.
  explicit Block(size_t room);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  struct Identity {
    const uint8_t* key;  // kKeyBytes; null: any, of any count
    int64_t count;       // of samples
  };

  enum Found {
    kTaken,
    kForeign,       // of another key or count
    kOtherVersion,  // of this program
    kBroken,
    kGone,          // there is no such file (any more)
    kUnreadable,    // now: errno says why
  };
  // A block's file, mapped: null where it isn't taken; `found` says why not.
  static std::unique_ptr<Block> open(const std::string& path, const Identity& identity, Found* found);

  // Space for a blob: null where there is too little left.
  uint8_t* reserve(size_t length);
  // Writes it as a file of a folder and maps that in its place; false where that failed, and `reason` says why.
  bool write(const std::string& folder, const std::string& file_name, const Identity& identity, std::string* reason);

  // What a blob of it is by its checksum; kUnchecked: it can't be read now.
  Record::State look(const Record& record) const;
  // Whether its file has been made shorter since it was mapped: to read behind its end would end the process.
  bool cut() const;
  // Whether to read its last blob would end the process now, whatever has become of its file's name.
  bool ends_early() const;
  // Of its blobs, each rounded up to kAlign; and of its file.
  int64_t bytes() const { return static_cast<int64_t>(used_ - kHeadBytes); }
  int64_t file_bytes() const {
    return static_cast<int64_t>(used_ + (records.size() + static_cast<size_t>(copying)) * kRowBytes);
  }
  const std::string& path() const { return path_; }

  std::deque<Record> records;
  int copying = 0;  // threads that are filling in what they have reserved
  bool sealed = false, writing = false, written = false;
  bool lost = false;     // its file was cut
  bool removed = false;  // its file was: its samples are in another, or the folder was cleared
  std::string name;      // of its file
  std::atomic<int64_t> watched{0};  // by a child process: see Store::lost_in_child

 private:
  Block() = default;
  void map(int file);

  uint8_t* base_ = nullptr;
  size_t size_ = 0, used_ = 0;
  std::string path_;
  dev_t device_ = 0;
  ino_t file_ = 0;
};

// A name for a block's file that none has.
std::string unused_name();
// Whether a file has such a name, or that of one which is being written. Others that are damaged aren't removed.
bool is_own_name(const std::string& name);

// gl_block_check. Throws a Failure for a file that isn't a block, or can't be read.
void check_block(const char* path, int64_t* sound, int64_t* damaged);

// Removes what writers that were killed have left behind in a folder: its caller has the turn, so no other writes.
void remove_leftovers(const std::string& folder);

}  // namespace greenload
