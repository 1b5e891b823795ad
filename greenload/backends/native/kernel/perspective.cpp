#include <cstdlib>

#include "between.h"
#include "filters.h"

namespace greenload {

namespace {

// Under a perspective map; infinite or no number where the pixel's centre has no place.
Place seen_at(const double* m, int64_t column, int64_t row) {
  const double x = column + 0.5, y = row + 0.5, w = m[6] * x + m[7] * y + m[8];
  return {(m[0] * x + m[1] * y + m[2]) / w - 0.5, (m[3] * x + m[4] * y + m[5]) / w - 0.5};
}

template <class T>
void perspective_any(const Image& in, const double* m, double fill, T* out) {
  for (int64_t row = 0; row < in.height; row++) {
    for (int64_t column = 0; column < in.width; column++, out += in.channels) {
      anywhere(in, seen_at(m, column, row), fill, out);
    }
  }
}

// RGB levels: between four pixels in float32, and in float64 where that isn't sure.
class RgbPerspective {
 public:
  RgbPerspective(const Image& in, const double* matrix, double fill)
      : in_(in),
        m_(matrix),
        fill_(fill),
        right_(static_cast<double>(in.width - 1)),
        bottom_(static_cast<double>(in.height - 1)),
        has_near_bytes_(in.height * std::abs(in.stride) < int64_t{1} << 31) {}

  void line(int64_t row, int64_t first, int64_t count, uint8_t* out) const {
    const double middle = row + 0.5;
    const PerspectiveLine line = {in_.data,
                                  in_.stride,
                                  static_cast<double>(in_.width),
                                  static_cast<double>(in_.height),
                                  {m_[0], m_[1] * middle, m_[2]},
                                  {m_[3], m_[4] * middle, m_[5]},
                                  {m_[6], m_[7] * middle, m_[8]},
                                  first + 0.5,
                                  rounded(fill_, out)};
    Unsure unsure;
    const int64_t done = has_near_bytes_ ? perspective_avx2(line, count, out, unsure) : 0;
    for (int k = 0; k < unsure.count; k++) {
      pixel(row, first + unsure.columns[k], out + 3 * unsure.columns[k]);
    }
    for (int64_t column = done; column < count; column++) {
      pixel(row, first + column, out + 3 * column);
    }
  }

 private:
  void pixel(int64_t row, int64_t column, uint8_t* out) const {
    const Place place = seen_at(m_, column, row);
    if (!(place.x >= 0.0 && place.x < right_ && place.y >= 0.0 && place.y < bottom_)) {
      return anywhere(in_, place, fill_, out);
    }
    const int32_t left = static_cast<int32_t>(place.x), top = static_cast<int32_t>(place.y);
    const float right_share = static_cast<float>(place.x - left), bottom_share = static_cast<float>(place.y - top);
    const uint8_t *above = in_.row(top) + 3 * int64_t{left}, *below = above + in_.stride;
    const Four a = levels(above), b = levels_behind(above), c = levels(below), d = levels_behind(below);
    const Four upper = a + (b - a) * right_share, lower = c + (d - c) * right_share;
    if (!store(upper + (lower - upper) * bottom_share + 0.5f, out)) {
      between_four(in_, place, out);
    }
  }

  const Image& in_;
  const double* m_;
  double fill_, right_, bottom_;
  bool has_near_bytes_;
};

}  // namespace

void perspective(const Image& in, const double* matrix, double fill, uint8_t* out) {
  if (in.dtype == GL_FLOAT32) {
    return perspective_any(in, matrix, fill, reinterpret_cast<float*>(out));
  }
  if (in.channels == 3) {
    return in_lines(in, RgbPerspective(in, matrix, fill), out);
  }
  perspective_any(in, matrix, fill, out);
}

}  // namespace greenload
