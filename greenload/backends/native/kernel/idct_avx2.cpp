#include "idct.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#define AVX2 __attribute__((target("avx2,popcnt")))

namespace greenload {

namespace {

// The last index in zigzag order up to which only the first four of four rows are other than zero.
constexpr int kLastOfCorner = 9;

AVX2 inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }

// Pairs of multipliers, of the lower half and of the upper one.
AVX2 inline __m256i pairs(int a, int b, int c, int d) {
  const auto pair = [](int x, int y) { return static_cast<int32_t>(static_cast<uint32_t>(y) << 16 | (x & 0xFFFF)); };
  const int32_t low = pair(a, b), high = pair(c, d);
  return _mm256_setr_epi32(low, low, low, low, high, high, high, high);
}

AVX2 inline __m256i swapped(__m256i v) { return _mm256_permute2x128_si256(v, v, 0x01); }

template <int kShift>
AVX2 inline __m256i rounding() {
  return _mm256_set1_epi32(1 << (kShift - 1));
}

// (first + second) >> kShift and (first − second) >> kShift of eight 32 bits each.
template <int kShift>
AVX2 inline void butterfly(__m256i first, __m256i second, __m256i& sum, __m256i& difference) {
  first = _mm256_add_epi32(first, rounding<kShift>());
  sum = _mm256_srai_epi32(_mm256_add_epi32(first, second), kShift);
  difference = _mm256_srai_epi32(_mm256_sub_epi32(first, second), kShift);
}

// A value's first and last 8 bytes to a row each.
AVX2 inline void store_rows(__m128i v, uint8_t* first, uint8_t* second) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(first), v);
  _mm_storeh_pd(reinterpret_cast<double*>(second), _mm_castsi128_pd(v));
}

// Eight lines of a block, its rows or its columns, two in a vector. "04" is a vector of line 0 in the lower half and line
// 4 in the upper one: so in comments, and in names as in04.
struct Lines {
  __m256i a, b, c, d;
};

// The inverse DCT across lines, which come as 04, 31, 26, 75 and go as 01, 32, 45, 76: jidctint-avx2.asm's DODCT.
template <int kShift>
AVX2 inline Lines inverse(__m256i in04, __m256i in31, __m256i in26, __m256i in75) {
  const __m256i in62 = swapped(in26), in40 = swapped(in04), in13 = swapped(in31);
  const __m256i k26 = pairs(kFix0541 + kFix0765, kFix0541, kFix0541 - kFix1847, kFix0541);
  const __m256i even_low = _mm256_madd_epi16(_mm256_unpacklo_epi16(in26, in62), k26);
  const __m256i even_high = _mm256_madd_epi16(_mm256_unpackhi_epi16(in26, in62), k26);
  const __m256i signs = _mm256_setr_epi16(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m256i sums = _mm256_add_epi16(in40, _mm256_sign_epi16(in04, signs));
  const __m256i zero = _mm256_setzero_si256();
  const __m256i sums_low = _mm256_srai_epi32(_mm256_unpacklo_epi16(zero, sums), 16 - kDctBits);
  const __m256i sums_high = _mm256_srai_epi32(_mm256_unpackhi_epi16(zero, sums), 16 - kDctBits);
  const __m256i t01_low = _mm256_add_epi32(sums_low, even_low), t01_high = _mm256_add_epi32(sums_high, even_high);
  const __m256i t32_low = _mm256_sub_epi32(sums_low, even_low), t32_high = _mm256_sub_epi32(sums_high, even_high);

  const __m256i z34 = _mm256_add_epi16(in75, in31), z43 = swapped(z34);
  const __m256i kz = pairs(kFix1175 - kFix1961, kFix1175, kFix1175 - kFix0390, kFix1175);
  const __m256i cross_low = _mm256_madd_epi16(_mm256_unpacklo_epi16(z34, z43), kz);
  const __m256i cross_high = _mm256_madd_epi16(_mm256_unpackhi_epi16(z34, z43), kz);
  const __m256i odd_low = _mm256_unpacklo_epi16(in75, in13), odd_high = _mm256_unpackhi_epi16(in75, in13);
  const __m256i k01 = pairs(kFix0298 - kFix0899, -kFix0899, kFix2053 - kFix2562, -kFix2562);
  const __m256i k32 = pairs(-kFix0899, kFix1501 - kFix0899, -kFix2562, kFix3072 - kFix2562);
  const __m256i odd01_low = _mm256_add_epi32(_mm256_madd_epi16(odd_low, k01), cross_low);
  const __m256i odd01_high = _mm256_add_epi32(_mm256_madd_epi16(odd_high, k01), cross_high);
  const __m256i odd32_low = _mm256_add_epi32(_mm256_madd_epi16(odd_low, k32), swapped(cross_low));
  const __m256i odd32_high = _mm256_add_epi32(_mm256_madd_epi16(odd_high, k32), swapped(cross_high));

  __m256i low01, high01, low76, high76, low32, high32, low45, high45;
  butterfly<kShift>(t01_low, odd32_low, low01, low76);
  butterfly<kShift>(t01_high, odd32_high, high01, high76);
  butterfly<kShift>(t32_low, odd01_low, low32, low45);
  butterfly<kShift>(t32_high, odd01_high, high32, high45);
  return {_mm256_packs_epi32(low01, high01), _mm256_packs_epi32(low32, high32), _mm256_packs_epi32(low45, high45),
          _mm256_packs_epi32(low76, high76)};
}

// Lines 01, 32, 45, 76 to those across them: 04, 15, 26, 37.
AVX2 inline Lines transposed(const Lines& lines) {
  const __m256i a = _mm256_permute4x64_epi64(lines.a, 0xD8), b = _mm256_permute4x64_epi64(lines.b, 0x72);
  const __m256i c = _mm256_permute4x64_epi64(lines.c, 0xD8), d = _mm256_permute4x64_epi64(lines.d, 0x72);
  const __m256i e = _mm256_unpacklo_epi16(a, b), f = _mm256_unpackhi_epi16(a, b);
  const __m256i g = _mm256_unpacklo_epi16(c, d), h = _mm256_unpackhi_epi16(c, d);
  const __m256i i = _mm256_unpacklo_epi16(e, f), j = _mm256_unpacklo_epi16(g, h);
  const __m256i k = _mm256_unpackhi_epi16(e, f), l = _mm256_unpackhi_epi16(g, h);
  return {_mm256_unpacklo_epi64(i, j), _mm256_unpackhi_epi64(i, j), _mm256_unpacklo_epi64(k, l),
          _mm256_unpackhi_epi64(k, l)};
}

// Columns of a block whose only row is the first: libjpeg's shortcut, whose large values wrap. As `transposed` gives
// them.
AVX2 inline Lines from_first_row(__m256i in01) {
  const __m128i row = _mm_slli_epi16(_mm256_castsi256_si128(in01), kBetweenBits);
  const __m256i twice = _mm256_set_m128i(_mm_unpackhi_epi16(row, row), _mm_unpacklo_epi16(row, row));
  return {_mm256_shuffle_epi32(twice, 0x00), _mm256_shuffle_epi32(twice, 0x55), _mm256_shuffle_epi32(twice, 0xAA),
          _mm256_shuffle_epi32(twice, 0xFF)};
}

AVX2 inline bool only_first_row(const int16_t* coefficients) {
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(coefficients + 8));
  const __m256i others =
      _mm256_or_si256(_mm256_or_si256(load(coefficients + 16), load(coefficients + 32)), load(coefficients + 48));
  const __m256i all = _mm256_or_si256(others, _mm256_castsi128_si256(second));
  return _mm256_testz_si256(all, all) && _mm_testz_si128(second, second);
}

AVX2 inline void inverse_all(__m256i in01, __m256i in23, __m256i in45, __m256i in67, bool first_row, uint8_t* to,
                             ptrdiff_t pitch) {
  Lines lines;
  if (__builtin_expect(first_row, 0)) {
    lines = from_first_row(in01);
  } else {
    lines = transposed(inverse<kColumnShift>(
        _mm256_permute2x128_si256(in01, in45, 0x20), _mm256_permute2x128_si256(in23, in01, 0x31),
        _mm256_permute2x128_si256(in23, in67, 0x20), _mm256_permute2x128_si256(in67, in45, 0x31)));
  }
  lines = transposed(inverse<kRowShift>(lines.a, _mm256_permute2x128_si256(lines.d, lines.b, 0x20), lines.c,
                                        _mm256_permute2x128_si256(lines.d, lines.b, 0x31)));
  const __m256i middle = _mm256_set1_epi8(-128);
  const __m256i rows0145 = _mm256_xor_si256(_mm256_packs_epi16(lines.a, lines.b), middle);
  const __m256i rows2367 = _mm256_xor_si256(_mm256_packs_epi16(lines.c, lines.d), middle);
  store_rows(_mm256_castsi256_si128(rows0145), to, to + pitch);
  store_rows(_mm256_castsi256_si128(rows2367), to + 2 * pitch, to + 3 * pitch);
  store_rows(_mm256_extracti128_si256(rows0145, 1), to + 4 * pitch, to + 5 * pitch);
  store_rows(_mm256_extracti128_si256(rows2367, 1), to + 6 * pitch, to + 7 * pitch);
}

// Multipliers that make value i of a line, and value 7 − i, whose values 4 … 7 are zero: of values 0, 2 and of 1, 3.
constexpr int kOne = 1 << kDctBits;
constexpr int kEven[4][2] = {{kOne, kFix0541 + kFix0765},
                             {kOne, kFix0541},
                             {kOne, -kFix0541},
                             {kOne, -kFix0541 - kFix0765}};
constexpr int kOdd[4][2] = {{kFix1501 - kFix0899 + kFix1175 - kFix0390, kFix1175},
                            {kFix1175, kFix3072 - kFix2562 + kFix1175 - kFix1961},
                            {kFix1175 - kFix0390, kFix1175 - kFix2562},
                            {kFix1175 - kFix0899, kFix1175 - kFix1961}};

// Values `kLow` and 7 − kLow of lines in the lower half, `kHigh` and 7 − kHigh of those in the upper one.
template <int kShift, int kLow, int kHigh>
AVX2 inline void corner(__m256i evens, __m256i odds, __m256i& first, __m256i& last) {
  const __m256i even = pairs(kEven[kLow][0], kEven[kLow][1], kEven[kHigh][0], kEven[kHigh][1]);
  const __m256i odd = pairs(kOdd[kLow][0], kOdd[kLow][1], kOdd[kHigh][0], kOdd[kHigh][1]);
  butterfly<kShift>(_mm256_madd_epi16(evens, even), _mm256_madd_epi16(odds, odd), first, last);
}

// Of a block whose coefficients lie in the first four of four rows, and whose first row doesn't wrap.
AVX2 inline void inverse_corner(__m256i in01, __m256i in23, uint8_t* to, ptrdiff_t pitch) {
  // Of each column, values 0 and 2 as a pair in one half, values 1 and 3 in the other.
  const __m256i both = _mm256_unpacklo_epi16(in01, in23);
  const __m256i evens = _mm256_permute4x64_epi64(both, 0x44), odds = _mm256_permute4x64_epi64(both, 0xEE);
  __m256i row01, row32, row45, row76;
  corner<kColumnShift, 0, 1>(evens, odds, row01, row76);
  corner<kColumnShift, 3, 2>(evens, odds, row32, row45);
  // Rows 0, 3 | 1, 2 and 4, 7 | 5, 6, of four values each: to values 0, 2 of each row, then values 1, 3.
  const __m256i apart = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,  //
                                         0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  const __m256i upper = _mm256_shuffle_epi8(_mm256_packs_epi32(row01, row32), apart);
  const __m256i lower = _mm256_shuffle_epi8(_mm256_packs_epi32(row45, row76), apart);
  const __m256i left = _mm256_unpacklo_epi64(upper, lower), right = _mm256_unpackhi_epi64(upper, lower);
  __m256i column[8];
  corner<kRowShift, 0, 0>(left, right, column[0], column[7]);
  corner<kRowShift, 1, 1>(left, right, column[1], column[6]);
  corner<kRowShift, 2, 2>(left, right, column[2], column[5]);
  corner<kRowShift, 3, 3>(left, right, column[3], column[4]);
  // Four columns of rows 0, 3, 4, 7 | 1, 2, 5, 6 in a vector: to four bytes of each row.
  const __m256i across = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                          0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m256i first = _mm256_shuffle_epi8(
      _mm256_packs_epi16(_mm256_packs_epi32(column[0], column[1]), _mm256_packs_epi32(column[2], column[3])), across);
  const __m256i second = _mm256_shuffle_epi8(
      _mm256_packs_epi16(_mm256_packs_epi32(column[4], column[5]), _mm256_packs_epi32(column[6], column[7])), across);
  const __m256i middle = _mm256_set1_epi8(-128);
  const __m256i rows0312 = _mm256_xor_si256(_mm256_unpacklo_epi32(first, second), middle);
  const __m256i rows4756 = _mm256_xor_si256(_mm256_unpackhi_epi32(first, second), middle);
  store_rows(_mm256_castsi256_si128(rows0312), to, to + 3 * pitch);
  store_rows(_mm256_extracti128_si256(rows0312, 1), to + pitch, to + 2 * pitch);
  store_rows(_mm256_castsi256_si128(rows4756), to + 4 * pitch, to + 7 * pitch);
  store_rows(_mm256_extracti128_si256(rows4756, 1), to + 5 * pitch, to + 6 * pitch);
}

// Whether a first row is one that libjpeg's shortcut would wrap: a damaged file's.
AVX2 inline bool wraps(__m256i in01) {
  return !_mm256_testz_si256(_mm256_abs_epi16(in01), _mm256_set1_epi16(static_cast<int16_t>(0xE000)));
}

AVX2 inline void flat(uint8_t level, uint8_t* to, ptrdiff_t pitch) {
  const __m128i levels = _mm_set1_epi8(static_cast<char>(level));
  for (int y = 0; y < 8; y += 2) {
    store_rows(levels, to + y * pitch, to + (y + 1) * pitch);
  }
}

AVX2 void inverse_dct(const int16_t* coefficients, const uint16_t* quant, int last, uint8_t* to, ptrdiff_t pitch) {
  if (last == 0) {
    return flat(flat_level(coefficients[0], quant[0]), to, pitch);
  }
  const __m256i in01 = _mm256_mullo_epi16(load(coefficients), load(quant));
  const __m256i in23 = _mm256_mullo_epi16(load(coefficients + 16), load(quant + 16));
  if (last <= kLastOfCorner && !wraps(in01)) {
    return inverse_corner(in01, in23, to, pitch);
  }
  const __m256i in45 = _mm256_mullo_epi16(load(coefficients + 32), load(quant + 32));
  const __m256i in67 = _mm256_mullo_epi16(load(coefficients + 48), load(quant + 48));
  inverse_all(in01, in23, in45, in67, only_first_row(coefficients), to, pitch);
}

// Of the bytes of each mask's ones, in order, where its eight bytes come from; 0x80: zero.
struct Spread {
  uint8_t at[256][8];
  constexpr Spread() : at() {
    for (int mask = 0; mask < 256; mask++) {
      int count = 0;
      for (int i = 0; i < 8; i++) {
        at[mask][i] = mask >> i & 1 ? static_cast<uint8_t>(count++) : 0x80;
      }
    }
  }
};
alignas(64) constexpr Spread kSpread;

AVX2 inline __m128i load8(const void* from) { return _mm_loadl_epi64(static_cast<const __m128i*>(from)); }

AVX2 inline int ones(uint64_t mask) { return static_cast<int>(_mm_popcnt_u64(mask)); }

// Two rows of coefficients.
AVX2 inline __m256i two_rows(uint64_t masks, const uint8_t* values) {
  const uint8_t first = masks & 255, second = masks >> 8 & 255;
  const __m128i low = _mm_shuffle_epi8(load8(values), load8(kSpread.at[first]));
  const __m128i high = _mm_shuffle_epi8(load8(values + ones(first)), load8(kSpread.at[second]));
  return _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(low, high));
}

AVX2 bool unpack(const uint8_t* row, const uint8_t* end, int64_t passed, int64_t count, const uint16_t* quant,
                 uint8_t* to, ptrdiff_t pitch) {
  const __m256i q01 = load(quant), q23 = load(quant + 16), q45 = load(quant + 32), q67 = load(quant + 48);
  const __m256i only_first = _mm256_setr_epi16(-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  for (int64_t i = 0; i < passed + count; i++) {
    if (row >= end) {
      return false;
    }
    int16_t head;
    uint64_t masks;
    memcpy(&head, row, 2);
    memcpy(&masks, row + 2, 8);
    const int rows = head & 15;
    if (rows > 8) {
      if (i >= passed) {
        inverse_dct(reinterpret_cast<const int16_t*>(row + 2), quant, 63, to, pitch);
        to += 8;
      }
      row += 130;
      continue;
    }
    const uint8_t* values = row + 2 + rows;
    masks = rows ? masks & ~uint64_t{0} >> (64 - 8 * rows) : 0;
    row = values + ones(masks);
    if (__builtin_expect(masks & 1, 0)) {
      return false;
    }
    if (i < passed) {
      continue;
    }
    const int16_t first = static_cast<int16_t>(head >> 4);
    if (!masks) {
      flat(flat_level(first, quant[0]), to, pitch);
      to += 8;
      continue;
    }
    const __m256i dc = _mm256_and_si256(_mm256_set1_epi16(first), only_first);
    const __m256i in01 = _mm256_mullo_epi16(_mm256_or_si256(two_rows(masks, values), dc), q01);
    const __m256i in23 = _mm256_mullo_epi16(two_rows(masks >> 16, values + ones(masks & 0xFFFF)), q23);
    if (!(masks & 0xFFFFFFFFF0F0F0F0) && !wraps(in01)) {
      inverse_corner(in01, in23, to, pitch);
    } else {
      const __m256i in45 = _mm256_mullo_epi16(two_rows(masks >> 32, values + ones(masks & 0xFFFFFFFF)), q45);
      const __m256i in67 = _mm256_mullo_epi16(two_rows(masks >> 48, values + ones(masks & 0xFFFFFFFFFFFF)), q67);
      inverse_all(in01, in23, in45, in67, masks < 256, to, pitch);
    }
    to += 8;
  }
  return true;
}

}  // namespace

const DctLoops kAvx2DctLoops = {inverse_dct, unpack};

}  // namespace greenload

#else

namespace greenload {

const DctLoops kAvx2DctLoops = kPortableDctLoops;

}  // namespace greenload

#endif
