// The data of a scan, as bits (ITU-T T.81, F.2.2.5 and B.1.1.5): without the zeros that are stuffed behind bytes of
// 0xFF, and cut at restart markers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "buffer.h"

namespace greenload {

// Reads bits from the highest down. It looks up to 8 bytes ahead, so the memory must go on behind its data.
// As variant 4 of Fabian Giesen's "Reading bits in far too many ways" (2018): what is below `count` are bits that come
// next anyway, so that they may be read once more.
struct BitReader {
  const uint8_t* at = nullptr;
  uint64_t bits = 0;
  int count = 0;

  // Has at least 56 bits ready.
  void refill() {
    uint64_t next;
    memcpy(&next, at, sizeof next);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    next = __builtin_bswap64(next);
#endif
    bits |= next >> count;
    at += (63 - count) >> 3;
    count |= 56;
  }
  // The next 1 … 56 bits.
  uint32_t peek(int size) const { return static_cast<uint32_t>(bits >> (64 - size)); }
  void drop(int size) {
    bits <<= size;
    count -= size;
  }
  uint32_t take(int size) {
    const uint32_t value = peek(size);
    drop(size);
    return value;
  }
  // Where the next bit lies, behind the byte `begin`.
  int64_t position(const uint8_t* begin) const { return (at - begin) * 8 - count; }
};

class ScanData {
 public:
  // Takes the data that begin at `from` and end with a marker, at the latest in front of `end`. Returns where that
  // marker is; null where there is none, or where the data aren't as an encoder writes them.
  const uint8_t* read(const uint8_t* from, const uint8_t* end, int restart_interval);
  // How many segments restart markers cut them into.
  int64_t segments() const { return static_cast<int64_t>(ends_.size()); }
  // Goes to a segment. False where there is none.
  bool go_to(int64_t segment, BitReader* reader);
  // Whether a reader has read no more than its segment has.
  bool holds(const BitReader& reader) const { return reader.position(bytes_) <= limit_; }
  // Whether it has read all of it, but for the bits that fill the last byte.
  bool is_done(const BitReader& reader) const { return holds(reader) && limit_ - reader.position(bytes_) < 8; }

  void trim(size_t limit);

 private:
  Buffer data_;
  const uint8_t* bytes_ = nullptr;
  std::vector<int64_t> ends_;  // of segments
  int64_t limit_ = 0;  // of the segment that is read, in bits
};

// More than what an MCU of 10 blocks may take, of 64 coefficients of 31 bits: so much may be read before it is looked
// whether the data have ended.
constexpr size_t kBehindData = 4096;

}  // namespace greenload
