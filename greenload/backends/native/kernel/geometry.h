// Steps that move pixels, of any dtype and number of channels. Results have no gaps between rows.
#pragma once
#include "image.h"

namespace greenload {

// One image's rows, copied. `out` may not overlap it.
void copy(const Image& in, uint8_t* out);

// By EXIF orientation 1 … 8, upright.
void turn(const Image& in, int orientation, uint8_t* out);
bool turn_transposes(int orientation);

// Left and right exchanged, or top and bottom. In place where `out` is the image.
void flip(const Image& in, bool vertical, const Image& out);

// `in` at [top, left] of a larger `out`, which is `pixel` elsewhere.
void pad(const Image& in, int64_t top, int64_t left, const uint8_t* pixel, const Image& out);

// `pixel` in a window of an image.
void erase(const Image& image, int64_t top, int64_t left, int64_t height, int64_t width, const uint8_t* pixel);

}  // namespace greenload
