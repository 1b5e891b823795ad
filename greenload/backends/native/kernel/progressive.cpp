#include "progressive.h"

#include <algorithm>
#include <cstring>

#include "loops.h"
#include "probe.h"
#include "rows.h"

namespace greenload {

namespace {

constexpr int kMostLow = 13;  // libjpeg, jdphuff.c

// The bits of the indices first … last.
inline uint64_t bits_of(int first, int last) { return (~uint64_t{0} >> (63 - last)) & (~uint64_t{0} << first); }

int16_t shifted(int value, int low) { return static_cast<int16_t>(static_cast<uint32_t>(value) << low); }

constexpr int kAtOnce = 8;  // bits that are turned round

// Of each byte, its bits in the other order.
struct Reversed {
  uint8_t of[1 << kAtOnce];
  Reversed() {
    for (int value = 0; value < 1 << kAtOnce; value++) {
      of[value] = 0;
      for (int i = 0; i < kAtOnce; i++) {
        of[value] = static_cast<uint8_t>(of[value] | (value >> i & 1) << (kAtOnce - 1 - i));
      }
    }
  }
};
const Reversed kReversed;

// Reads a bit for each of some coefficients that aren't zero (G.1.2.3); which of them it is 1 of.
template <bool kQuick>
INLINE uint64_t read_corrections(BitReader& reader, uint64_t which) {
  uint64_t found = 0;
  int left = __builtin_popcountll(which);
  while (left > 0) {
    const int count = std::min(left, kAtOnce);
    reader.refill();
    const uint32_t bits = kReversed.of[reader.take(count) << (kAtOnce - count)];
    const uint64_t ones = deposited<kQuick>(bits, which);
    found |= ones;
    left -= count;
    if (left > 0) {
      which ^= deposited<kQuick>((1 << kAtOnce) - 1, which);
    }
  }
  return found;
}

// Moves coefficients away from zero by bit `low`.
INLINE void correct(int16_t* block, uint64_t which, int low) {
  for (; block && which; which &= which - 1) {
    int16_t& value = block[kNatural[__builtin_ctzll(which)]];
    const int sign = value >> 15;
    value = static_cast<int16_t>(value + (((1 << low) ^ sign) - sign));
  }
}

// The place behind a run of coefficients that are zero; behind `last` where there are too few.
template <bool kQuick>
INLINE int behind_run(uint64_t nonzero, int index, int run, int last) {
  if (!(nonzero >> index & ((uint64_t{2} << run) - 1))) {
    return index + run;
  }
  const uint64_t place = deposited<kQuick>(uint64_t{1} << run, ~nonzero & bits_of(index, last));
  return place ? __builtin_ctzll(place) : last + 1;
}

// A scan's coefficients: which, and the bit that it brings them down to (Ss, Se, Al).
struct Band {
  const HuffmanTable& table;
  int first, last, low;
};

// A block's coefficients of a band, for the first time (G.1.2.2). How many blocks end with it; −1 where the codes are
// wrong, or a coefficient needs more than 16 bits: libjpeg, which cuts it off, may then take it for zero.
INLINE int first_of(BitReader& reader, const Band& band, int16_t* block, uint64_t* nonzero) {
  int index = band.first;
  while (index <= band.last) {
    reader.refill();
    const uint32_t entry = band.table.next(reader);
    const int advance = entry_advance(entry);
    if (advance >= kBlockEnd) {
      return advance == kBlockEnd ? entry_value(entry) : -1;
    }
    index += advance;
    const int value = entry_value(entry);
    if (index - 1 > band.last) {
      return -1;
    }
    if (value) {
      const int16_t coefficient = shifted(value, band.low);
      if (coefficient >> band.low != value) {
        return -1;
      }
      *nonzero |= uint64_t{1} << (index - 1);
      if (block) {
        block[kNatural[index - 1]] = coefficient;
      }
    }
  }
  return 0;
}

// The same once more, by a bit (G.1.2.3).
template <bool kQuick>
INLINE int refined(BitReader& reader, const Band& band, int16_t* block, uint64_t* nonzero) {
  const uint64_t before = *nonzero;
  uint64_t corrections = 0;  // made at the end, all at once
  int ended = 0;
  for (int index = band.first; index <= band.last;) {
    reader.refill();
    const uint32_t entry = band.table.next(reader);
    const int symbol = entry_value(entry), run = symbol >> 4, size = symbol & 15;
    if (entry_advance(entry) == kBadCode || size > 1) {
      return -1;
    }
    if (!size && run != 15) {
      ended = (1 << run) + static_cast<int>(run ? reader.take(run) : 0);
      corrections |= read_corrections<kQuick>(reader, before & bits_of(index, band.last));
      break;
    }
    const int value = size ? (reader.take(1) ? 1 : -1) : 0;
    const int place = behind_run<kQuick>(before, index, run, band.last);
    if (size && place > band.last) {
      return -1;
    }
    const uint64_t passed = before & bits_of(index, std::min(place, band.last));
    if (passed) {  // not `place`: it is zero
      corrections |= read_corrections<kQuick>(reader, passed);
    }
    if (size) {
      *nonzero |= uint64_t{1} << place;
      if (block) {
        block[kNatural[place]] = shifted(value, band.low);
      }
    }
    index = place + 1;
  }
  correct(block, corrections, band.low);
  return ended;
}

}  // namespace

void ProgressiveScans::begin(const JpegFrame& frame, const Strips& strips) {
  frame_ = &frame;
  row_ = 0;
  mcu_rows_ = strips.needed_mcus().bottom;
  all_mcu_rows_ = strips.mcu_rows();
  mcu_columns_ = strips.mcu_columns();
  for (int c = 0; c < frame.count; c++) {
    Kept& kept = kept_[c];
    kept.range = strips.needed(c);
    kept.columns = strips.columns(c);
    kept.rows = strips.rows(c);
    const size_t blocks = static_cast<size_t>(kept.range.height() * kept.range.width());
    kept.blocks = kept.coefficients.of<int16_t>(blocks * kCoefficients);
    memset(kept.blocks, 0, blocks * kCoefficients * sizeof(int16_t));
    const size_t masks = static_cast<size_t>(kept.range.bottom * kept.columns);
    kept.nonzero = kept.masks.of<uint64_t>(masks);
    memset(kept.nonzero, 0, masks * sizeof(uint64_t));
    memset(kept.known, -1, sizeof kept.known);
  }
}

bool ProgressiveScans::read(JpegHeaders* headers, JpegScan* scan, const Strips& strips) {
  begin(headers->frame(), strips);
  for (int scans = 1;; scans++) {
    if (scans > kMostScans || !note(*scan)) {
      return false;
    }
    interval_ = headers->restart_interval();
    const uint8_t* end = data_.read(scan->data, headers->end(), headers->restart_interval());
    if (!end || !has_its_segments(*scan) || !decode(*headers, *scan)) {
      return false;
    }
    headers->resume(end);
    const JpegHeaders::Found found = headers->next(scan);
    if (found != JpegHeaders::kScan) {
      return found == JpegHeaders::kEnd && is_complete();
    }
  }
}

// Whether a scan may come behind those before it: libjpeg warns of others.
bool ProgressiveScans::note(const JpegScan& scan) {
  const bool dc = scan.first == 0;
  if (dc ? scan.last != 0 : scan.last < scan.first || scan.last >= kCoefficients || scan.count != 1) {
    return false;
  }
  if ((scan.high && scan.low != scan.high - 1) || scan.low > kMostLow) {
    return false;
  }
  for (int i = 0; i < scan.count; i++) {
    Kept& kept = kept_[scan.components[i]];
    if (!dc && kept.known[0] < 0) {
      return false;
    }
    for (int index = scan.first; index <= scan.last; index++) {
      // First it comes whole but for some bits, and only once; then bit by bit.
      const int before = kept.known[index];
      if (scan.high ? scan.high != before : before >= 0) {
        return false;
      }
      kept.known[index] = static_cast<int8_t>(scan.low);
    }
  }
  return true;
}

// Whether every bit has come: else libjpeg smooths what is coarse.
bool ProgressiveScans::is_complete() const {
  for (int c = 0; c < frame_->count; c++) {
    for (const int8_t known : kept_[c].known) {
      if (known != 0) {
        return false;
      }
    }
  }
  return true;
}

// Whether restart markers cut its data into as many segments as it needs, none of them missing or behind the last.
bool ProgressiveScans::has_its_segments(const JpegScan& scan) const {
  const Kept& only = kept_[scan.components[0]];
  const int64_t units = scan.count > 1 ? all_mcu_rows_ * mcu_columns_ : only.rows * only.columns;
  return !interval_ || data_.segments() == (units + interval_ - 1) / interval_;
}

bool ProgressiveScans::decode(const JpegHeaders& headers, const JpegScan& scan) {
  return scan.first == 0 ? first_coefficients(headers, scan) : bands(headers, scan);
}

// At the begin of a segment: goes to it, where the one before has ended as it should.
bool ProgressiveScans::restart(BitReader* reader, int64_t unit) {
  if (unit && !data_.is_done(*reader)) {
    return false;
  }
  return data_.go_to(interval_ ? unit / interval_ : 0, reader);
}

// A scan of DC coefficients, interleaved where it has several components (A.2, G.1.2.1).
bool ProgressiveScans::first_coefficients(const JpegHeaders& headers, const JpegScan& scan) {
  const bool interleaved = scan.count > 1;
  const HuffmanTable* tables[kMostComponents] = {};
  for (int i = 0; i < scan.count && !scan.high; i++) {
    HuffmanTable& table = dc_tables_[scan.dc_slots[i]];
    if (!table.set(headers.dc(scan.dc_slots[i]), HuffmanTable::kDc)) {
      return false;
    }
    tables[i] = &table;
  }
  const Kept& only = kept_[scan.components[0]];
  const int64_t columns = interleaved ? mcu_columns_ : only.columns;
  const int64_t rows = interleaved ? mcu_rows_ : only.range.bottom;
  const bool whole = rows == (interleaved ? all_mcu_rows_ : only.rows);
  BitReader reader;
  int32_t before[kMostComponents] = {};
  for (int64_t unit = 0; unit < rows * columns; unit++) {
    if (interval_ ? unit % interval_ == 0 : unit == 0) {
      BitReader copy = reader;
      if (!restart(&copy, unit)) {
        return false;
      }
      reader = copy;
      std::fill_n(before, kMostComponents, 0);
    }
    const int64_t row = unit / columns, column = unit % columns;
    for (int i = 0; i < scan.count; i++) {
      const int c = scan.components[i];
      const bool several = interleaved && c == 0;
      const int down = several ? frame_->down() : 1, across = several ? frame_->across() : 1;
      for (int member = 0; member < down * across; member++) {
        int16_t* block = kept_[c].block(row * down + member / across, column * across + member % across);
        reader.refill();
        if (scan.high) {
          const int bit = static_cast<int>(reader.take(1));
          if (block) {
            block[0] = static_cast<int16_t>(block[0] | bit << scan.low);
          }
          continue;
        }
        const uint32_t entry = tables[i]->next(reader);
        before[i] += entry_value(entry);
        if (entry_advance(entry) == kBadCode || before[i] != static_cast<int16_t>(before[i])) {
          return false;
        }
        if (block) {
          block[0] = shifted(before[i], scan.low);
        }
      }
    }
    if (!data_.holds(reader)) {
      return false;
    }
  }
  return !whole || data_.is_done(reader);
}

// A scan of a component's other coefficients.
template <bool kRefines, bool kQuick>
INLINE bool ProgressiveScans::band(const JpegScan& scan, Kept& kept) {
  const Band band = {kRefines ? refinement_table_ : band_table_, scan.first, scan.last, scan.low};
  const uint64_t all = bits_of(scan.first, scan.last);
  BitReader reader;
  int64_t ended = 0;  // blocks from here on that have ended
  int64_t until = 0;  // the next restart marker
  const int64_t units = kept.range.bottom * kept.columns;
  int64_t row = 0, column = 0;
  for (int64_t unit = 0; unit < units; unit++, column++) {
    if (unit == until) {
      BitReader copy = reader;
      if (!restart(&copy, unit)) {
        return false;
      }
      reader = copy;
      ended = 0;
      until = interval_ ? unit + interval_ : units;
    }
    if (!kRefines && ended) {  // nothing more of them
      const int64_t passed = std::min(ended, until - unit);
      ended -= passed;
      unit += passed - 1;
      column += passed - 1;
      continue;
    }
    for (; column >= kept.columns; column -= kept.columns) {
      row++;
    }
    uint64_t* nonzero = kept.nonzero + unit;
    if (ended) {
      ended--;
      correct(kept.block(row, column), read_corrections<kQuick>(reader, *nonzero & all), band.low);
    } else {
      int16_t* block = kept.block(row, column);
      const int more = kRefines ? refined<kQuick>(reader, band, block, nonzero)
                                : first_of(reader, band, block, nonzero);
      if (more < 0) {
        return false;
      }
      ended = std::max(more - 1, 0);
    }
    if (!data_.holds(reader)) {
      return false;
    }
  }
  return kept.range.bottom < kept.rows || data_.is_done(reader);
}

bool ProgressiveScans::bands(const JpegHeaders& headers, const JpegScan& scan) {
  Kept& kept = kept_[scan.components[0]];
  const HuffmanCode& code = headers.ac(scan.ac_slots[0]);
  HuffmanTable& table = scan.high ? refinement_table_ : band_table_;
  if (!table.set(code, scan.high ? HuffmanTable::kRefinement : HuffmanTable::kProgressiveAc)) {
    return false;
  }
  return uses_avx2() ? quick_band(scan, kept) : scan.high ? band<true, false>(scan, kept)
                                                         : band<false, false>(scan, kept);
}

QUICK bool ProgressiveScans::quick_band(const JpegScan& scan, Kept& kept) {
  return scan.high ? band<true, true>(scan, kept) : band<false, true>(scan, kept);
}

void ProgressiveScans::row(Strips& strips) {
  const DctLoops& loops = dct_loops();
  for (int c = 0; c < frame_->count; c++) {
    Kept& kept = kept_[c];
    const int64_t each = c ? 1 : frame_->down();
    const int64_t begin = std::max(row_ * each, kept.range.top), end = std::min((row_ + 1) * each, kept.range.bottom);
    for (int64_t y = begin; y < end; y++) {
      for (int64_t x = kept.range.left; x < kept.range.right; x++) {
        const uint64_t nonzero = kept.nonzero[y * kept.columns + x];
        const int last = nonzero ? 63 - __builtin_clzll(nonzero) : 0;
        loops.inverse_dct(kept.block(y, x), frame_->components[c].quant, last, strips.place(c, y, x), strips.pitch(c));
      }
    }
  }
  row_++;
}

void ProgressiveScans::trim(size_t limit) {
  data_.trim(limit);
  release_above(limit, {&kept_[0].coefficients, &kept_[0].masks, &kept_[1].coefficients, &kept_[1].masks,
                        &kept_[2].coefficients, &kept_[2].masks});
}

}  // namespace greenload
