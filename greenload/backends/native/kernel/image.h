// An image on its way through the steps.
#pragma once
#include <cstddef>
#include <cstdint>

#include "abi.h"
#include "source.h"

namespace greenload {

inline int item_bytes(int32_t dtype) {
  return dtype == GL_FLOAT32 ? 4 : dtype == GL_FLOAT16 || dtype == GL_BFLOAT16 ? 2 : 1;
}

// Pixels [height, width, channels]. A view: it owns no memory.
struct Image {
  uint8_t* data = nullptr;       // of the first pixel
  ptrdiff_t stride = 0;          // bytes from row to row
  const uint8_t* end = nullptr;  // of the memory behind the last row that may be read
  int64_t height = 0, width = 0;
  int channels = 0;
  int32_t dtype = GL_UINT8;
  bool writable = false;  // ours, so that a step may work in place
  // What makes its rows, where they are in no memory: then `data` is null.
  RowSource* source = nullptr;

  int pixel_bytes() const { return channels * item_bytes(dtype); }
  int64_t row_bytes() const { return width * pixel_bytes(); }
  int64_t bytes() const { return height * row_bytes(); }
  int64_t row_values() const { return width * channels; }
  uint8_t* row(int64_t y) const { return data + y * stride; }
};

struct Window {
  int64_t top, left, height, width;
};

// A result's rows lie without gaps.
inline Image dense(uint8_t* data, int64_t height, int64_t width, int channels, int32_t dtype) {
  Image image;
  image.data = data;
  image.height = height;
  image.width = width;
  image.channels = channels;
  image.dtype = dtype;
  image.stride = image.row_bytes();
  image.end = data + image.bytes();
  image.writable = true;
  return image;
}

// RGB whose rows are made when they are asked for.
inline Image made_by(RowSource* source, int64_t height, int64_t width) {
  Image image;
  image.source = source;
  image.height = height;
  image.width = width;
  image.channels = 3;
  image.stride = image.row_bytes();
  return image;
}

}  // namespace greenload
