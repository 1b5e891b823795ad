// Huffman codes as tables (ITU-T T.81, annex C and F.2.2.3). What a look-up gives is more than the symbol: where code
// and extra bits fit into kLookBits together, it is the coefficient, its run of zeros and all their bits at once (as in
// stb_image, "fast AC"), or two of these; and, to go past blocks that nothing needs, as many symbols as fit.
#pragma once
#include <cstdint>

#include "jpeg_headers.h"
#include "loops.h"
#include "scan_data.h"

namespace greenload {

// With 11 the tables of luma and chroma take more than their part of the first cache: 5 % slower.
constexpr int kLookBits = 10;
// So many look-ups are there bits for after a refill.
constexpr int kLooks = 5;

// What the look-ups give, from the highest bit down:
//   next, look  an entry        value 31 … 16, advance 15 … 8, kSlow 7, bits 5 … 0
//   skip        many symbols    advance 15 … 8, kSkipEnd 4, bits 3 … 0
//   pair        one or two      values of the second 63 … 48 and the first 47 … 32, their advances 31 … 24 and
//               coefficients    23 … 16, bits of the first 15 … 8, of both 7 … 0
//
// An entry: `bits` are those of the code and what belongs to it.
// Of the sequential mode, and of the first scan of a band: `advance` is a run of zeros and the coefficient behind it;
// kBlockEnd at the block's end (in the progressive mode `value` blocks end then, this one included), kBadCode where the
// code is none (so of DC, whose advance is else 0). Of DC `value` is the difference. Of refinements it is the symbol,
// without extra bits.
constexpr int kBlockEnd = 128, kBadCode = 200;
constexpr uint32_t kSlow = 0x80;  // the symbol lies where the advance would, and the code's length where the bits would

inline int entry_bits(uint32_t entry) { return entry & 63; }
inline int entry_advance(uint32_t entry) { return (entry >> 8) & 255; }
inline int entry_value(uint32_t entry) { return static_cast<int32_t>(entry) >> 16; }

class HuffmanTable {
 public:
  enum Use { kDc, kAc, kProgressiveAc, kRefinement };

  // False where the code isn't a whole one, as libjpeg checks it. Nothing is done where it is the same as before.
  bool set(const HuffmanCode& code, Use use);

  uint32_t look(const BitReader& reader) const { return look_[reader.peek(kLookBits)]; }
  // What `look` gave only in part, of the next 31 bits.
  uint32_t slow(uint64_t bits, uint32_t entry) const;
  // The next entry, of a reader that has 31 bits; its bits are read.
  INLINE uint32_t next(BitReader& reader) const {
    uint32_t entry = look(reader);
    if (__builtin_expect(entry & kSlow, 0)) {
      entry = slow(reader.bits, entry);
    }
    reader.drop(entry_bits(entry));
    return entry;
  }

  // Of kAc: one or two coefficients at once. No bits: not even one.
  // Where there is but one, the second advances by 0 and has its value.
  uint64_t pair(const BitReader& reader) const { return pairs_[reader.peek(kLookBits)]; }

  // Of kAc: as many symbols as fit, and with kSkipEnd a block's end behind them. No bits: not one.
  static constexpr uint32_t kSkipEnd = 16;
  uint32_t skip(const BitReader& reader) const { return skip_[reader.peek(kLookBits)]; }

 private:
  void place(int symbol, uint32_t code, int length);
  uint32_t whole(int symbol, int bits, uint32_t extra) const;
  uint64_t pair_of(uint32_t index) const;
  void join();

  HuffmanCode code_;
  Use use_ = kDc;
  uint32_t look_[1 << kLookBits];
  uint16_t skip_[1 << kLookBits];
  uint64_t pairs_[1 << kLookBits];
  uint32_t limit_[17];  // above the codes of a length, as 16 bits; 0: there is none
  int32_t offset_[17];  // from a code to its value's index
};

}  // namespace greenload
