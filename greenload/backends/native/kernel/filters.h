// Steps that mix neighbouring pixels, of uint8 (rounded half up) and float32: an affine or a perspective map, a blur;
// and of uint8 alone sharpening.
#pragma once
#include "buffer.h"
#include "image.h"

namespace greenload {

// The image seen through `matrix` [2, 3], which takes an output pixel's centre to a place in the input. Bilinear; a
// pixel outside counts as `fill`.
void warp(const Image& in, const double* matrix, double fill, uint8_t* out);

// The same through a perspective map, `matrix` [3, 3].
void perspective(const Image& in, const double* matrix, double fill, uint8_t* out);

// Each value of uint8 farther from the mean of those around it, by a finite factor from 0; the outermost pixels stay.
// Of 3 rows and columns at least.
void sharpen(const Image& in, double factor, Buffer& memory, uint8_t* out);

class Blur {
 public:
  // A Gaussian of `rows` × `columns` taps; beyond the border the image is mirrored about its outermost pixels.
  void apply(const Image& in, double sigma, int rows, int columns, uint8_t* out);
  // Gives back memory above a limit.
  void trim(size_t limit);

 private:
  void fixed(const Image& in, double sigma, int rows, int columns, uint8_t* out);
  template <class T>
  void exact(const Image& in, double sigma, int rows, int columns, uint8_t* out);
  Buffer line_, copies_;
};

}  // namespace greenload
