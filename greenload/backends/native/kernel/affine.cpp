#include <algorithm>

#include "color.h"
#include "color_avx2.h"
#include "failure.h"
#include "look_up.h"
#include "values.h"

namespace greenload {

namespace {

constexpr int kRepeat = 24;  // values after which 1 or 3 channels fill vectors of 8

bool is_byte(int32_t dtype) { return dtype == GL_UINT8 || dtype == GL_INT8; }

// From a value of the first channel on.
template <class T>
void look_up_row(const uint8_t* from, T* to, int64_t values, const T* entries, int tables) {
  if (tables == 1) {
    int64_t i = 0;
    for (; i + 4 <= values; i += 4) {
      const T a = entries[from[i]], b = entries[from[i + 1]], c = entries[from[i + 2]], d = entries[from[i + 3]];
      to[i] = a, to[i + 1] = b, to[i + 2] = c, to[i + 3] = d;
    }
    for (; i < values; i++) {
      to[i] = entries[from[i]];
    }
  } else if (tables == 3) {
    for (int64_t i = 0; i < values; i += 3) {
      const T first = entries[from[i]], second = entries[256 + from[i + 1]], third = entries[512 + from[i + 2]];
      to[i] = first, to[i + 1] = second, to[i + 2] = third;
    }
  } else {
    for (int64_t i = 0; i < values; i++) {
      to[i] = entries[i % tables * 256 + from[i]];
    }
  }
}

// Values begin … end, of which `begin` is a multiple of kRepeat. In float32, as on every backend.
template <class T>
void scale_values(const T* from, float* to, int64_t begin, int64_t end, const float* scales, const float* offsets) {
  int64_t i = begin;
  for (; i + kRepeat <= end; i += kRepeat) {
    for (int k = 0; k < kRepeat; k++) {
      to[i + k] = from[i + k] * scales[k] + offsets[k];
    }
  }
  for (int k = 0; i < end; i++, k++) {
    to[i] = from[i] * scales[k] + offsets[k];
  }
}

// In float64, rounded once.
template <class Before, class After>
void convert(const Image& in, const Image& out, const std::vector<double>& scales, const std::vector<double>& offsets) {
  const int64_t period = static_cast<int64_t>(scales.size());
  for (int64_t y = 0; y < in.height; y++) {
    const auto* from = reinterpret_cast<const typename Before::Value*>(in.row(y));
    auto* to = reinterpret_cast<typename After::Value*>(out.row(y));
    if (period == 1) {
      const double scale = scales[0], offset = offsets[0];
      for (int64_t i = 0; i < in.row_values(); i++) {
        to[i] = After::write(Before::read(from[i]) * scale + offset);
      }
      continue;
    }
    for (int64_t x = 0; x < in.width; x++, from += period, to += period) {
      for (int64_t c = 0; c < period; c++) {
        to[c] = After::write(Before::read(from[c]) * scales[c] + offsets[c]);
      }
    }
  }
}

}  // namespace

void look_up(const Image& in, const uint8_t* tables, int count, const Image& out) {
  const bool dense = in.stride == in.row_bytes() && out.stride == in.stride;  // as one row
  const int64_t rows = dense ? 1 : in.height, values = dense ? in.height * in.row_values() : in.row_values();
  for (int64_t y = 0; y < rows; y++) {
    const uint8_t* from = in.row(y);
    uint8_t* to = out.row(y);
    int64_t done = look_up_avx512(from, to, values, tables, count);
    done += done ? 0 : look_up_avx2(from, to, values, tables, count);
    look_up_row(from + done, to + done, values - done, tables, count);
  }
}

Affine::Affine(const double* numbers, int count, int32_t dtype_in, int32_t dtype_out)
    : dtype_in_(dtype_in),
      dtype_out_(dtype_out),
      scales_(numbers, numbers + count / 2),
      offsets_(numbers + count / 2, numbers + count) {
  const int channels = this->channels();
  const bool quick = is_byte(dtype_in) || dtype_in == GL_FLOAT32;
  if (quick && dtype_out == GL_FLOAT32 && kRepeat % channels == 0) {
    for (int i = 0; i < kRepeat; i++) {
      row_scales_.push_back(static_cast<float>(scales_[i % channels]));
      row_offsets_.push_back(static_cast<float>(offsets_[i % channels]));
    }
  }
  if (!is_byte(dtype_in) || dtype_out == GL_FLOAT32) {
    return;
  }
  table_.resize(static_cast<size_t>(channels) * 256 * item_bytes(dtype_out));
  for (int c = 0; c < channels; c++) {
    for (int v = 0; v < 256; v++) {
      const double value = dtype_in == GL_UINT8 ? v : static_cast<int8_t>(v);
      write_value(table_.data(), c * 256 + v, dtype_out, value * scales_[c] + offsets_[c]);
    }
  }
}

void Affine::by_table(const Image& in, const Image& out) const {
  if (item_bytes(dtype_out_) == 1) {
    return look_up(in, table_.data(), channels(), out);
  }
  for (int64_t y = 0; y < in.height; y++) {
    look_up_row(in.row(y), reinterpret_cast<uint16_t*>(out.row(y)), in.row_values(),
                reinterpret_cast<const uint16_t*>(table_.data()), channels());
  }
}

void Affine::in_float32(const Image& in, const Image& out) const {
  for (int64_t y = 0; y < in.height; y++) {
    const uint8_t* from = in.row(y);
    float* to = reinterpret_cast<float*>(out.row(y));
    const float *scales = row_scales_.data(), *offsets = row_offsets_.data();
    switch (dtype_in_) {
      case GL_UINT8: {
        const int64_t done = scale_avx2(from, to, in.row_values(), scales, offsets);
        scale_values(from, to, done, in.row_values(), scales, offsets);
        break;
      }
      case GL_INT8: scale_values(reinterpret_cast<const int8_t*>(from), to, 0, in.row_values(), scales, offsets); break;
      default: scale_values(reinterpret_cast<const float*>(from), to, 0, in.row_values(), scales, offsets);
    }
  }
}

void Affine::apply(const Image& in, const Image& out) const {
  const int channels = this->channels();
  if (channels != 1 && channels != in.channels) {
    fail(GL_BAD_CALL, "numbers for %d channels of an image of %d", channels, in.channels);
  }
  if (!table_.empty()) {
    return by_table(in, out);
  }
  if (!row_scales_.empty()) {
    return in_float32(in, out);
  }
  by_dtype(dtype_in_, [&](auto before) {
    by_dtype(dtype_out_, [&](auto after) { convert<decltype(before), decltype(after)>(in, out, scales_, offsets_); });
  });
}

}  // namespace greenload
