#include "coefficients.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "failure.h"
#include "form_head.h"
#include "idct.h"

namespace greenload {

namespace {

constexpr FormHead kHead = {"GLDC", 1, "coefficients"};
constexpr int64_t kTable = 2 * kCoefficients;
constexpr int64_t kBehind = 192;  // more than a block that begins in front of them can reach
constexpr int kWhole = 15;        // n of a block whose coefficients don't fit
constexpr int64_t kSmallestBlock = 2, kLargestBlock = 2 + kTable;
constexpr int64_t kMostBytes = UINT32_MAX;

uint32_t number_at(const uint8_t* from) {
  uint32_t value;
  memcpy(&value, from, sizeof value);
  return value;
}

int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of blocks of all components.
int64_t rows_of(int64_t height, int components, int down) {
  return divided_up(height, 8) + (components - 1) * divided_up(divided_up(height, down), 8);
}

// Of each coefficient whether it is other than zero.
uint64_t ones_of(const int16_t* block) {
  uint64_t ones = 0;
#if defined(__SSE2__)
  for (int y = 0; y < 8; y += 2) {
    const __m128i* rows = reinterpret_cast<const __m128i*>(block + 8 * y);
    const __m128i both = _mm_packs_epi16(_mm_loadu_si128(rows), _mm_loadu_si128(rows + 1));
    const int zeros = _mm_movemask_epi8(_mm_cmpeq_epi8(both, _mm_setzero_si128()));
    ones |= static_cast<uint64_t>(~zeros & 0xFFFF) << (8 * y);
  }
#else
  for (int i = 0; i < kCoefficients; i++) {
    ones |= static_cast<uint64_t>(block[i] != 0) << i;
  }
#endif
  return ones;
}

// Returns behind it: at most kLargestBlock bytes further.
uint8_t* pack_block(const int16_t* block, uint8_t* to) {
  const uint64_t ones = ones_of(block) & ~uint64_t{1};
  const int rows = ones ? 8 - __builtin_clzll(ones) / 8 : 0;
  bool fits = block[0] >= -2048 && block[0] < 2048;
  uint8_t* at = to + 2;
  for (int y = 0; y < rows; y++) {
    *at++ = static_cast<uint8_t>(ones >> (8 * y));
  }
  for (uint64_t left = ones; left; left &= left - 1) {
    const int16_t value = block[__builtin_ctzll(left)];
    fits = fits && value == static_cast<int8_t>(value);
    *at++ = static_cast<uint8_t>(value);
  }
  const uint16_t head = static_cast<uint16_t>(block[0] * 16 | (fits ? rows : kWhole));
  memcpy(to, &head, 2);
  if (!fits) {
    memcpy(to + 2, block, kTable);
    at = to + kLargestBlock;
  }
  return at;
}

// Whether the index's rows begin behind it, lie one behind another up to `end`, and have bytes enough for their blocks:
// so a file can't claim sides that it has nothing for.
bool rows_are_whole(const JpegFrame& frame, const uint8_t* file, int64_t index, int64_t rows, int64_t end) {
  const int64_t luma_rows = divided_up(frame.height, 8);
  const int64_t luma = divided_up(frame.width, 8), chroma = divided_up(divided_up(frame.width, frame.across()), 8);
  int64_t at = number_at(file + index);
  bool whole = at >= index + 4 * (rows + 1);
  for (int64_t i = 0; whole && i < rows; i++) {
    const int64_t next = number_at(file + index + 4 * (i + 1));
    whole = next - at >= kSmallestBlock * (i < luma_rows ? luma : chroma);
    at = next;
  }
  return whole && at == end;
}

}  // namespace

bool are_coefficients(const uint8_t* file, int64_t length) { return kHead.begins(file, length); }

Coefficients coefficients_of(const uint8_t* file, int64_t length) {
  const Planes sizes = kHead.read(file, length);
  Coefficients coefficients;
  JpegFrame& frame = coefficients.frame;
  frame.count = sizes.components;
  frame.components[0].across = sizes.across;
  frame.components[0].down = sizes.down;
  frame.width = sizes.width;
  frame.height = sizes.height;
  const int64_t rows = rows_of(frame.height, frame.count, frame.down());
  const int64_t index = kFormHead + frame.count * kTable, end = length - kBehind;
  if (index + 4 * (rows + 1) > end || !rows_are_whole(frame, file, index, rows, end)) {
    kHead.refuse();
  }
  for (int c = 0; c < frame.count; c++) {
    memcpy(frame.components[c].quant, file + kFormHead + c * kTable, kTable);
  }
  coefficients.file = file;
  coefficients.index = file + index;
  return coefficients;
}

Image CoefficientsDecoder::open(const Coefficients& coefficients, const Window& window) {
  check_window(window, coefficients.frame.height, coefficients.frame.width);
  coefficients_ = coefficients;
  window_ = window;
  strips_.set(coefficients_.frame, window);
  made_ = strips_.needed_mcus().top;
  planes_.open(strips_.planes(), window);
  pitch = planes_.pitch;
  offset = planes_.offset;
  return made_by(this, window.height, window.width);
}

void CoefficientsDecoder::make_strips(int64_t mcu_row) {
  const JpegFrame& frame = coefficients_.frame;
  int64_t before = 0;  // rows of the other components
  for (int c = 0; c < frame.count; before += strips_.rows(c), c++) {
    const int64_t per_row = c ? 1 : frame.down();
    const BlockRange& range = strips_.needed(c);
    for (int64_t y = mcu_row * per_row; y < (mcu_row + 1) * per_row; y++) {
      if (!range.has_row(y)) {
        continue;
      }
      const uint8_t* index = coefficients_.index + 4 * (before + y);
      if (!dct_loops().unpack(coefficients_.file + number_at(index), coefficients_.file + number_at(index + 4), range.left,
                              range.width(), frame.components[c].quant, strips_.place(c, y, range.left),
                              strips_.pitch(c))) {
        kHead.refuse();
      }
    }
  }
}

void CoefficientsDecoder::make(int64_t first, int64_t count, uint8_t* const* places) {
  for (int64_t i = 0; i < count; i++) {
    for (const int64_t last = strips_.mcu_row_of(window_.top + first + i); made_ <= last; made_++) {
      make_strips(made_);
    }
    planes_.make(first + i, 1, places + i);
  }
}

void CoefficientsDecoder::trim(size_t limit) {
  strips_.trim(limit);
  planes_.trim(limit);
}

void CoefficientsWriter::put(int64_t at, const void* bytes, int64_t count) {
  if (at + count <= capacity_) {
    memcpy(to_ + at, bytes, static_cast<size_t>(count));
  }
}

// Notes that the next row begins here.
void CoefficientsWriter::mark() {
  const uint32_t at = static_cast<uint32_t>(at_);
  put(index_, &at, sizeof at);
  index_ += sizeof at;
}

void CoefficientsWriter::begin(const Planes& planes, const uint16_t* const* quants) {
  uint8_t head[kFormHead];
  kHead.write(planes, head);
  put(0, head, kFormHead);
  for (int c = 0; c < planes.components; c++) {
    put(kFormHead + c * kTable, quants[c], kTable);
  }
  index_ = kFormHead + planes.components * kTable;
  at_ = index_ + 4 * (rows_of(planes.height, planes.components, planes.down) + 1);
}

void CoefficientsWriter::row(const int16_t (*blocks)[kCoefficients], int64_t count) {
  mark();
  for (int64_t i = 0; i < count; i++) {
    if (capacity_ - at_ >= kLargestBlock) {
      at_ = pack_block(blocks[i], to_ + at_) - to_;
      continue;
    }
    uint8_t block[kLargestBlock];
    const int64_t size = pack_block(blocks[i], block) - block;
    put(at_, block, size);
    at_ += size;
  }
}

int64_t CoefficientsWriter::end() {
  mark();
  const uint8_t zeros[kBehind] = {};
  put(at_, zeros, kBehind);
  at_ += kBehind;
  if (at_ > kMostBytes) {
    fail(GL_BAD_FILE, "too many coefficients for an index of their rows");
  }
  return at_;
}

}  // namespace greenload
