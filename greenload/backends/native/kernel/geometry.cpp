#include "geometry.h"

#include <algorithm>
#include <cstring>

namespace greenload {

namespace {

// Calls `work` with a type of a pixel's size: of the usual sizes, so that copying one is an instruction or two.
template <int kBytes>
struct Pixel {
  uint8_t bytes[kBytes];
};

template <class Work>
void by_pixel_size(int bytes, Work work) {
  switch (bytes) {
    case 1: return work(Pixel<1>());
    case 2: return work(Pixel<2>());
    case 3: return work(Pixel<3>());
    case 4: return work(Pixel<4>());
    case 6: return work(Pixel<6>());
    case 12: return work(Pixel<12>());
  }
  work(nullptr);
}

template <class P>
struct Access {
  static void move(uint8_t* to, const uint8_t* from, int) { memcpy(to, from, sizeof(P)); }
  static void swap(uint8_t* a, uint8_t* b, int) {
    P kept;
    memcpy(&kept, a, sizeof(P));
    memcpy(a, b, sizeof(P));
    memcpy(b, &kept, sizeof(P));
  }
};

template <>
struct Access<std::nullptr_t> {
  static void move(uint8_t* to, const uint8_t* from, int bytes) { memcpy(to, from, bytes); }
  static void swap(uint8_t* a, uint8_t* b, int bytes) { std::swap_ranges(a, a + bytes, b); }
};

void mirror(const Image& in, const Image& out) {
  const int bytes = in.pixel_bytes();
  const bool in_place = in.data == out.data;
  by_pixel_size(bytes, [&](auto pixel) {
    using A = Access<decltype(pixel)>;
    for (int64_t y = 0; y < in.height; y++) {
      uint8_t* left = in.row(y);
      uint8_t* right = out.row(y) + (in.width - 1) * bytes;
      if (in_place) {
        for (; left < right; left += bytes, right -= bytes) {
          A::swap(left, right, bytes);
        }
      } else {
        for (int64_t x = 0; x < in.width; x++, left += bytes, right -= bytes) {
          A::move(right, left, bytes);
        }
      }
    }
  });
}

void fill(uint8_t* to, const uint8_t* pixel, int bytes, int64_t count) {
  if (bytes == 1 || std::all_of(pixel, pixel + bytes, [&](uint8_t b) { return b == pixel[0]; })) {
    memset(to, pixel[0], bytes * count);
    return;
  }
  by_pixel_size(bytes, [&](auto kind) {
    for (int64_t i = 0; i < count; i++) {
      Access<decltype(kind)>::move(to + i * bytes, pixel, bytes);
    }
  });
}

}  // namespace

void copy(const Image& in, uint8_t* out) {
  const int64_t bytes = in.row_bytes();
  if (in.stride == bytes) {
    memcpy(out, in.data, bytes * in.height);
    return;
  }
  for (int64_t y = 0; y < in.height; y++) {
    memcpy(out + y * bytes, in.row(y), bytes);
  }
}

bool turn_transposes(int orientation) { return orientation >= 5; }

void turn(const Image& in, int orientation, uint8_t* out) {
  // backends/orientation.py: rows and columns are exchanged, then left and right, then top and bottom.
  const bool mirrored = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const bool overturned = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool transposed = turn_transposes(orientation);
  const int bytes = in.pixel_bytes();
  const int64_t height = transposed ? in.width : in.height, width = transposed ? in.height : in.width;
  by_pixel_size(bytes, [&](auto pixel) {
    for (int64_t y = 0; y < height; y++) {
      const int64_t from_y = overturned ? height - 1 - y : y;
      uint8_t* to = out + y * width * bytes;
      for (int64_t x = 0; x < width; x++, to += bytes) {
        const int64_t from_x = mirrored ? width - 1 - x : x;
        const uint8_t* from = transposed ? in.row(from_x) + from_y * bytes : in.row(from_y) + from_x * bytes;
        Access<decltype(pixel)>::move(to, from, bytes);
      }
    }
  });
}

void flip(const Image& in, bool vertical, const Image& out) {
  if (!vertical) {
    return mirror(in, out);
  }
  const int64_t bytes = in.row_bytes();
  if (in.data == out.data) {
    for (int64_t y = 0; y < in.height / 2; y++) {
      std::swap_ranges(in.row(y), in.row(y) + bytes, in.row(in.height - 1 - y));
    }
    return;
  }
  for (int64_t y = 0; y < in.height; y++) {
    memcpy(out.row(in.height - 1 - y), in.row(y), bytes);
  }
}

void pad(const Image& in, int64_t top, int64_t left, const uint8_t* pixel, const Image& out) {
  const int bytes = in.pixel_bytes();
  const int64_t right = out.width - left - in.width, bottom = out.height - top - in.height;
  fill(out.data, pixel, bytes, top * out.width);
  for (int64_t y = 0; y < in.height; y++) {
    uint8_t* row = out.row(top + y);
    fill(row, pixel, bytes, left);
    memcpy(row + left * bytes, in.row(y), in.row_bytes());
    fill(row + left * bytes + in.row_bytes(), pixel, bytes, right);
  }
  fill(out.row(out.height - bottom), pixel, bytes, bottom * out.width);
}

void erase(const Image& image, int64_t top, int64_t left, int64_t height, int64_t width, const uint8_t* pixel) {
  const int bytes = image.pixel_bytes();
  for (int64_t y = top; y < top + height; y++) {
    fill(image.row(y) + left * bytes, pixel, bytes, width);
  }
}

}  // namespace greenload
