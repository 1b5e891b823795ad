#include "sequential.h"

#include <algorithm>
#include <cstring>

#include "loops.h"
#include "rows.h"

namespace greenload {

namespace {

constexpr int kDummy = kCoefficients;  // where what is no coefficient is written

// Of each index in zigzag order the place in a block. In front of a code the next index is 63 at most; behind it, it is
// larger by what the code advances, and kBadCode is the most.
struct Places {
  uint8_t of[kCoefficients + kBadCode];
  Places() {
    memset(of, kDummy, sizeof of);
    memcpy(of, kNatural, kCoefficients);
  }
};
const Places kPlaces;

// Whether a block may end with this index as its next: behind its last coefficient, or by an end that was read in front
// of it. An end advances by kBlockEnd: read in front of index 5, it makes the next 5 + 128, and the last one is 4.
inline bool is_end(int next) { return next == kCoefficients || (next > kBlockEnd && next < kBlockEnd + kCoefficients); }

// GCC takes `rep stos` for memset, which is slow for so little.
INLINE void clear(int16_t* block) {
  typedef int64_t Vector __attribute__((vector_size(16), may_alias));
  for (int i = 0; i < kCoefficients / 8; i++) {
    reinterpret_cast<Vector*>(block)[i] = Vector{0, 0};
  }
}

// The index of a block's last coefficient, by that of what would be next; −1 where it may not end there.
inline int last_of(int next) {
  return !is_end(next) ? -1 : next == kCoefficients ? kCoefficients - 1 : next - kBlockEnd - 1;
}

// Reads a block's coefficients behind its first (F.2.2.2). The index of the last; −1 where the codes are wrong.
INLINE int read_block(BitReader& reader, const HuffmanTable& table, int16_t* block) {
  int next = 1;
  for (;;) {
    reader.refill();
#pragma GCC unroll 4
    for (int i = 0; i < kLooks; i++) {
      const uint64_t pair = table.pair(reader);
      if (__builtin_expect(!pair, 0)) {
        reader.refill();
        const uint32_t entry = table.next(reader);
        next += entry_advance(entry);
        block[kPlaces.of[next - 1]] = static_cast<int16_t>(entry_value(entry));
        if (next >= kCoefficients) {
          return last_of(next);
        }
        break;
      }
      const int first = next + static_cast<int>(pair >> 16 & 255);
      next = first + static_cast<int>(pair >> 24 & 255);
      block[kPlaces.of[first - 1]] = static_cast<int16_t>(pair >> 32);
      block[kPlaces.of[next - 1]] = static_cast<int16_t>(pair >> 48);
      if (next >= kCoefficients) {
        // The first may have ended the block: then the second is the next block's.
        const bool one = first >= kCoefficients;
        reader.drop(static_cast<int>((one ? pair >> 8 : pair) & 63));
        return last_of(one ? first : next);
      }
      reader.drop(static_cast<int>(pair & 63));
    }
  }
}

// Goes past them. False where the codes are wrong.
INLINE bool skip_block(BitReader& reader, const HuffmanTable& table) {
  int next = 1;
  for (;;) {
    reader.refill();
#pragma GCC unroll 4
    for (int i = 0; i < kLooks; i++) {
      const uint32_t several = table.skip(reader);
      const int behind = next + static_cast<int>(several >> 8);
      if (__builtin_expect(behind >= kCoefficients || !(several & 15), 0)) {
        // It may end among them.
        reader.refill();
        next += entry_advance(table.next(reader));
        if (next >= kCoefficients) {
            return is_end(next);
        }
        break;
      }
      reader.drop(static_cast<int>(several & 15));
      next = behind;
      if (several & HuffmanTable::kSkipEnd) {
        return true;
      }
    }
  }
}

}  // namespace

bool SequentialScan::open(const JpegHeaders& headers, const JpegScan& scan, const Strips& strips) {
  frame_ = &headers.frame();
  if (scan.count != frame_->count || scan.first != 0 || scan.last != kCoefficients - 1 || scan.high || scan.low) {
    return false;
  }
  if (!choose_tables(headers, scan)) {
    return false;
  }
  interval_ = headers.restart_interval();
  if (!data_.read(scan.data, headers.end(), headers.restart_interval())) {
    return false;
  }
  loops_ = &dct_loops();
  needed_ = strips.needed_mcus();
  columns_ = strips.mcu_columns();
  // Where markers are missing, segments aren't where they seem to be.
  if (interval_ && data_.segments() != (strips.mcu_rows() * columns_ + interval_ - 1) / interval_) {
    return false;
  }
  mcu_ = row_ = 0;
  memset(block_, 0, sizeof block_);
  return jump(&reader_);
}

bool SequentialScan::choose_tables(const JpegHeaders& headers, const JpegScan& scan) {
  count_ = 0;
  for (int c = 0; c < scan.count; c++) {
    HuffmanTable& dc = dc_tables_[scan.dc_slots[c]];
    HuffmanTable& ac = ac_tables_[scan.ac_slots[c]];
    if (!dc.set(headers.dc(scan.dc_slots[c]), HuffmanTable::kDc) ||
        !ac.set(headers.ac(scan.ac_slots[c]), HuffmanTable::kAc)) {
      return false;
    }
    const int down = c ? 1 : frame_->down(), across = c ? 1 : frame_->across();
    for (int i = 0; i < down * across; i++) {
      members_[count_++] = {c, i / across, i % across, &dc, &ac};
    }
  }
  return true;
}

// The first MCU from one on that the window needs; that behind the last where there is none.
int64_t SequentialScan::next_needed(int64_t mcu) const {
  int64_t row = mcu / columns_, column = mcu % columns_;
  if (column >= needed_.right) {
    row++;
    column = 0;
  }
  if (row < needed_.top) {
    row = needed_.top;
    column = 0;
  }
  return row >= needed_.bottom ? needed_.bottom * columns_ : row * columns_ + std::max(column, needed_.left);
}

// Goes to the segment of the next needed MCU.
bool SequentialScan::jump(BitReader* reader) {
  const int64_t needed = next_needed(mcu_);
  int64_t segment = 0;
  left_ = INT64_MAX;
  if (interval_) {
    segment = needed / interval_;
    mcu_ = segment * interval_;
    left_ = interval_;
  }
  std::fill_n(dc_, kMostComponents, 0);
  return needed == needed_.bottom * columns_ || data_.go_to(segment, reader);
}

// Goes to the next segment where one has ended, or where nothing more of it is needed.
bool SequentialScan::go_on(BitReader* reader) {
  if (!left_) {
    return data_.is_done(*reader) && jump(reader);
  }
  if (mcu_ - row_ * columns_ == needed_.right && next_needed(mcu_) - mcu_ >= left_) {
    return jump(reader);
  }
  return true;
}

// What a row of MCUs needs of a member.
struct SequentialScan::RowMember {
  const HuffmanTable* dc;
  const HuffmanTable* ac;
  int32_t* before;  // the component's DC
  const uint16_t* quant;
  uint8_t* place;  // in MCU 0, and from MCU to MCU
  int64_t step, pitch;
  uint64_t from, count;  // the MCUs in which its block is needed
};

void SequentialScan::lay_out(Strips& strips, RowMember* row_members) {
  for (int i = 0; i < count_; i++) {
    const Member& member = members_[i];
    const int c = member.component;
    const BlockRange& range = strips.needed(c);
    const int64_t down = c ? 1 : frame_->down(), across = c ? 1 : frame_->across();
    const int64_t y = row_ * down + member.down;
    const int64_t from = std::max<int64_t>(0, range.left - member.across + across - 1) / across;
    const int64_t behind = std::max<int64_t>(0, range.right - member.across + across - 1) / across;
    row_members[i] = {member.dc,
                      member.ac,
                      dc_ + c,
                      frame_->components[c].quant,
                      strips.place(c, y, member.across),
                      across * Strips::kSide,
                      strips.pitch(c),
                      static_cast<uint64_t>(from),
                      static_cast<uint64_t>(range.has_row(y) ? behind - from : 0)};
  }
}

INLINE bool SequentialScan::mcu(BitReader& reader, int64_t column, const RowMember* members) {
  for (const RowMember* member = members; member < members + count_; member++) {
    reader.refill();
    const uint32_t entry = member->dc->next(reader);
    const int32_t dc = *member->before += entry_value(entry);
    if (entry_advance(entry) == kBadCode || dc != static_cast<int16_t>(dc)) {
      return false;
    }
    if (static_cast<uint64_t>(column) - member->from >= member->count) {
      if (!skip_block(reader, *member->ac)) {
        return false;
      }
      continue;
    }
    const int last = read_block(reader, *member->ac, block_);
    if (last < 0) {
      return false;
    }
    block_[0] = static_cast<int16_t>(dc);
    loops_->inverse_dct(block_, member->quant, last, member->place + column * member->step, member->pitch);
    clear(block_);
  }
  return true;
}

INLINE bool SequentialScan::row_of_mcus(Strips& strips) {
  RowMember members[kMostMembers];
  lay_out(strips, members);
  BitReader reader = reader_;
  const int64_t begin = row_ * columns_, end = begin + columns_;
  // Behind the last one that is needed nothing is decoded.
  const int64_t stop = row_ + 1 == needed_.bottom ? begin + needed_.right : end;
  while (mcu_ < stop) {
    if (interval_) {
      BitReader copy = reader;  // so that it stays in registers
      if (!go_on(&copy)) {
        return false;
      }
      reader = copy;
      if (mcu_ >= stop) {
        break;
      }
    }
    if (!mcu(reader, mcu_ - begin, members) || !data_.holds(reader)) {
      return false;
    }
    mcu_++;
    left_--;
  }
  reader_ = reader;
  row_++;
  return true;
}

QUICK bool SequentialScan::quick_row(Strips& strips) { return row_of_mcus(strips); }

bool SequentialScan::row(Strips& strips) { return uses_avx2() ? quick_row(strips) : row_of_mcus(strips); }

}  // namespace greenload
