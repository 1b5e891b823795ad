// The form GL_PLANES: an image's YCbCr planes, each at its own subsampling, as libjpeg's inverse DCT leaves them.
// Upsampling and converting them, of a window no more than it needs, gives the pixels that libjpeg gives.
//
// Bytes: a head (form_head.h) with the letters "GLYC"; the planes without gaps; kBehind zeros, so that vectors
// may read past the last row.
#pragma once
#include <cstddef>
#include <cstdint>

#include "buffer.h"
#include "image.h"

namespace greenload {

struct Plane {
  const uint8_t* data = nullptr;
  int64_t pitch = 0;
  int64_t left = 0;   // the column that `data` begins at
  int64_t mask = -1;  // of the rows that are there: a strip has only those near to one that is made

  // Where column 0 of a row would be.
  const uint8_t* row(int64_t y) const { return data + ((y & mask) * pitch - left); }
};

struct Planes {
  int64_t height = 0, width = 0;
  int components = 0;
  int across = 1, down = 1;
  Plane luma, chroma[2];

  int64_t chroma_height() const { return components == 1 ? 0 : (height + down - 1) / down; }
  int64_t chroma_width() const { return components == 1 ? 0 : (width + across - 1) / across; }
  int64_t bytes() const;  // as a file
  // Sets the pointers to the planes of a file.
  void point(const uint8_t* file);
};

bool are_planes(const uint8_t* file, int64_t length);
// Throws a Failure where the file isn't whole.
Planes planes_of(const uint8_t* file, int64_t length);
// Writes the header, and the zeros behind the planes.
void frame_planes(const Planes& planes, uint8_t* file);

// Planes to pixels.
class PlanesDecoder : public RowSource {
 public:
  // The pixels of a window, as rows to be made. The planes must stay.
  Image open(const Planes& planes, const Window& window);
  void make(int64_t first, int64_t count, uint8_t* const* places) override;
  void trim(size_t limit);

 private:
  void row(int64_t y, uint8_t* to);

  Planes planes_;
  Window window_ = {};
  Buffer sums_, chroma_[2];
};

}  // namespace greenload
