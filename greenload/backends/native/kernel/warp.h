// What warping RGB levels comes down to: neighbouring output pixels, each between four of the image. They are mixed in
// float32, which says which of them float64 may round to the other side.
#pragma once
#include <cstddef>
#include <cstdint>

namespace greenload {

constexpr int kPlaceBits = 32;     // of a place behind the binary point
constexpr int kLineColumns = 256;  // of a line: the rounding of its steps moves no place by more than 2⁻²⁵

// A sum of a place in float64: `step` · (a column + ½) + `row` + `shift`.
struct Terms {
  double step, row, shift;
};

struct WarpLine {
  const uint8_t* pixels;  // of the image
  ptrdiff_t stride;       // bytes from row to row
  ptrdiff_t below;        // bytes from the upper row of a pixel's four to the lower: 0 where all places are on rows
  int64_t x, y;           // where the first pixel's centre lies, counted from the centre of the image's first
  int64_t x_step, y_step;
  // The same in float64: of a pixel its sum − ½ on each axis, with `middle` + its column.
  Terms across, down;
  double middle;
  bool exact;  // float32 has every product and sum to the last bit
};

// A line under a perspective map: a pixel lies at `across` / `depth` − ½, and likewise `down`, each a sum of its own.
struct PerspectiveLine {
  const uint8_t* pixels;  // of the image, of less than 2³¹ bytes
  ptrdiff_t stride;
  double width, height;
  Terms across, down, depth;
  double middle;  // the first pixel's column + ½
  uint8_t fill;
};

// Of a line the columns that must be done again, one by one: those whose levels aren't sure.
struct Unsure {
  int count = 0;
  int columns[kLineColumns];

  void add(int64_t column) { columns[count++] = static_cast<int>(column); }
};

// How far from the middle between two levels' boundaries a level is sure. A share is off by 2⁻²⁴ where its bits are cut
// and by 2⁻²⁵ as its place is, of 255 levels on each axis: 2⁻¹⁴·⁴. A product, or a sum, is off by 2⁻¹⁷ of them at most:
// three of each, and the half, by 2⁻¹⁴·²; all together by less than 2⁻¹³.
constexpr float kSureLevels = 0.5f - 0x1p-12f;

// How far a place lies behind a whole one.
inline float share_of(int64_t place) {
  return static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(place) >> 8)) * 0x1p-24f;
}

// The AVX2 form of the loop over the columns from `begin` to `end`; the same bits as the portable one. `out` is the
// line's. It does as many as fill vectors, and returns the first that isn't done: `begin` where there is no AVX2. Reads
// 8 bytes from the left one of a pixel's four on, in both rows.
int64_t warp_avx2(const WarpLine& line, int64_t begin, int64_t end, uint8_t* out, Unsure& unsure);

// The columns before `count` of a line under a perspective map, as many as fill vectors; returns the first that isn't
// done. Those around whose places it may not read, or which lie partly outside, are unsure.
int64_t perspective_avx2(const PerspectiveLine& line, int64_t count, uint8_t* out, Unsure& unsure);

}  // namespace greenload
