#include "between.h"
#include "filters.h"

namespace greenload {

namespace {

Place place_of(const double* m, int64_t column, int64_t row) {
  return {m[0] * (column + 0.5) + m[1] * (row + 0.5) + m[2] - 0.5,
          m[3] * (column + 0.5) + m[4] * (row + 0.5) + m[5] - 0.5};
}

template <class T>
void warp_any(const Image& in, const double* m, double fill, T* out) {
  for (int64_t row = 0; row < in.height; row++) {
    for (int64_t column = 0; column < in.width; column++, out += in.channels) {
      anywhere(in, place_of(m, column, row), fill, out);
    }
  }
}

// Does the columns from `begin` to `end` of a line; `out` is the line's.
void warp_line(const WarpLine& line, int64_t begin, int64_t end, uint8_t* out, Unsure& unsure) {
  for (int64_t i = begin; i < end; i++) {
    const int64_t x = line.x + line.x_step * i, y = line.y + line.y_step * i;
    const uint8_t* above = line.pixels + (y >> kPlaceBits) * line.stride + (x >> kPlaceBits) * 3;
    const uint8_t* below = above + line.below;
    const float right_share = share_of(x), bottom_share = share_of(y);
    const Four a = levels(above), b = levels_behind(above), c = levels(below), d = levels_behind(below);
    const Four upper = a + (b - a) * right_share, lower = c + (d - c) * right_share;
    if (!store(upper + (lower - upper) * bottom_share + 0.5f, out + 3 * i) && !line.exact) {
      unsure.add(i);
    }
  }
}

constexpr int64_t kOne = int64_t{1} << kPlaceBits;
// Of sides, and of the terms of places: so a double is off by no more than fixed point.
constexpr double kFarthest = 0x1p20;

int64_t fixed(double place) { return static_cast<int64_t>(place * kOne + (place < 0.0 ? -0.5 : 0.5)); }

struct Span {
  int64_t begin, end;
};

// The places of neighbouring columns on one axis.
struct Axis {
  int64_t start, step;

  // The first column whose place is `bound` at least, `count` where none is; of a step above 0.
  int64_t first_from(int64_t bound, int64_t count) const {
    const double guess = static_cast<double>(bound - start) / static_cast<double>(step);
    int64_t column = static_cast<int64_t>(std::min(std::max(guess, 0.0), static_cast<double>(count)));
    while (column < count && start + step * column < bound) {
      column++;
    }
    while (column > 0 && start + step * (column - 1) >= bound) {
      column--;
    }
    return column;
  }

  // Of a span the columns whose places are `low` at least and below `high`.
  Span within(Span span, int64_t low, int64_t high) const {
    if (step == 0) {
      return start >= low && start < high ? span : Span{span.begin, span.begin};
    }
    if (step < 0) {
      return Axis{-start, -step}.within(span, 1 - high, 1 - low);
    }
    const int64_t begin = std::max(span.begin, first_from(low, span.end));
    return {begin, std::max(begin, first_from(high, span.end))};
  }

  bool is_whole() const { return start % kOne == 0; }
};

// Of places that are all multiples of 2⁻⁷ float32 has every product and sum to the last bit.
bool is_multiple(double value) { return value * 128.0 == std::floor(value * 128.0); }

// RGB levels, in lines of up to kLineColumns. Of a line some pixels lie outside, some between four of the image: these
// have loops of their own.
class RgbWarp {
 public:
  RgbWarp(const Image& in, const double* matrix, double fill)
      : in_(in), m_(matrix), fill_(fill), x_step_(fixed(matrix[0])), y_step_(fixed(matrix[3])) {
    for (int k : {0, 2, 3, 5}) {
      exact_ = exact_ && is_multiple(matrix[k]);
    }
  }

  void line(int64_t row, int64_t first, int64_t count, uint8_t* out) const {
    const Place place = place_of(m_, first, row);
    const Axis x = {fixed(place.x), x_step_}, y = {fixed(place.y), y_step_};
    const Span all = {0, count};
    const int64_t width = in_.width * kOne, height = in_.height * kOne;
    const bool between_rows = y.step != 0 || !y.is_whole();
    if (!between_rows && x.step == kOne && x.is_whole()) {
      return copy(x, y, x.within(y.within(all, 0, height), 0, width), count, out);
    }
    const Span touched = x.within(y.within(all, 1 - kOne, height), 1 - kOne, width);
    const Span between = x.within(y.within(touched, 0, between_rows ? height - kOne : height), 0, width - kOne);
    const Span quick = x.within(between, 0, width - 2 * kOne);  // where 8 bytes of both rows may be read
    outside(0, touched.begin, out);
    one_by_one(row, first, touched.begin, between.begin, out);
    const double middle = row + 0.5;
    const Terms across = {m_[0], m_[1] * middle, m_[2]}, down = {m_[3], m_[4] * middle, m_[5]};
    const bool exact = exact_ && is_multiple(across.row) && is_multiple(down.row);
    const WarpLine line = {
        in_.data,    in_.stride, between_rows ? in_.stride : 0, x.start, y.start, x.step, y.step, across, down,
        first + 0.5, exact};
    Unsure unsure;
    warp_line(line, between.begin, quick.begin, out, unsure);
    const int64_t done = warp_avx2(line, quick.begin, quick.end, out, unsure);
    warp_line(line, done, between.end, out, unsure);
    again(row, first, unsure, out);
    one_by_one(row, first, between.end, touched.end, out);
    outside(touched.end, count, out);
  }

 private:
  // Moved by whole pixels.
  void copy(const Axis& x, const Axis& y, Span inside, int64_t count, uint8_t* out) const {
    outside(0, inside.begin, out);
    if (inside.begin < inside.end) {
      const int64_t left = x.start / kOne + inside.begin;
      memcpy(out + 3 * inside.begin, in_.row(y.start / kOne) + 3 * left, 3 * (inside.end - inside.begin));
    }
    outside(inside.end, count, out);
  }

  void outside(int64_t begin, int64_t end, uint8_t* out) const {
    memset(out + 3 * begin, rounded(fill_, out), 3 * (end - begin));
  }

  // In float64.
  void one_by_one(int64_t row, int64_t first, int64_t begin, int64_t end, uint8_t* out) const {
    for (int64_t column = begin; column < end; column++) {
      anywhere(in_, place_of(m_, first + column, row), fill_, out + 3 * column);
    }
  }

  void again(int64_t row, int64_t first, const Unsure& unsure, uint8_t* out) const {
    const double right = static_cast<double>(in_.width - 1), bottom = static_cast<double>(in_.height - 1);
    for (int k = 0; k < unsure.count; k++) {
      uint8_t* to = out + 3 * unsure.columns[k];
      const Place place = place_of(m_, first + unsure.columns[k], row);
      if (place.x >= 0.0 && place.x < right && place.y >= 0.0 && place.y < bottom) {
        between_four(in_, place, to);
      } else {
        anywhere(in_, place, fill_, to);
      }
    }
  }

  const Image& in_;
  const double* m_;
  double fill_;
  int64_t x_step_, y_step_;
  bool exact_ = true;  // what the columns add to a line's places
};

// Whether all terms of places are of a size that fixed point can have.
bool is_near(const Image& in, const double* m) {
  const double width = static_cast<double>(in.width), height = static_cast<double>(in.height);
  const double x = std::fabs(m[0]) * width + std::fabs(m[1]) * height + std::fabs(m[2]);
  const double y = std::fabs(m[3]) * width + std::fabs(m[4]) * height + std::fabs(m[5]);
  return width < kFarthest && height < kFarthest && x < kFarthest && y < kFarthest;
}

}  // namespace

void warp(const Image& in, const double* matrix, double fill, uint8_t* out) {
  if (in.dtype == GL_FLOAT32) {
    return warp_any(in, matrix, fill, reinterpret_cast<float*>(out));
  }
  if (in.channels == 3 && is_near(in, matrix)) {
    return in_lines(in, RgbWarp(in, matrix, fill), out);
  }
  warp_any(in, matrix, fill, out);
}

}  // namespace greenload
