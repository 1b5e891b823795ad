// The form GL_COEFFICIENTS: a JPEG's quantised coefficients, each in a byte, so that no Huffman code is in the way: the
// same pixels at about twice a JPEG's bytes, of a window only from the rows of blocks that it needs.
//
// Bytes: a head (form_head.h) with the letters "GLDC"; of each component its quantisation table, uint16 [64] in natural
// order; where each component's rows of blocks begin, and behind the last one where it ends, as uint32; the rows;
// kBehind zeros.
//
// A block: uint16 of its first coefficient << 4 | n. n = 0 … 8: how many rows of it have others; a byte for each that
// says which are other than zero; these, a byte each. n = 15: a coefficient doesn't fit: int16 [64] follow.
#pragma once
#include <cstdint>

#include "buffer.h"
#include "decode.h"
#include "image.h"
#include "jpeg_headers.h"
#include "planes.h"
#include "strips.h"

namespace greenload {

struct Coefficients {
  JpegFrame frame;
  const uint8_t* file = nullptr;
  const uint8_t* index = nullptr;  // where the rows begin
};

bool are_coefficients(const uint8_t* file, int64_t length);
// Throws a Failure where the file isn't whole.
Coefficients coefficients_of(const uint8_t* file, int64_t length);

// Coefficients to pixels.
class CoefficientsDecoder : public RowSource {
 public:
  // The pixels of a window, as rows to be made. The file must stay.
  Image open(const Coefficients& coefficients, const Window& window);
  void make(int64_t first, int64_t count, uint8_t* const* places) override;
  void trim(size_t limit);

 private:
  void make_strips(int64_t mcu_row);

  Coefficients coefficients_;
  Strips strips_;
  PlanesDecoder planes_;
  Window window_ = {};
  int64_t made_ = 0;  // rows of MCUs
};

// Writes such a file, as far as there is room.
class CoefficientsWriter {
 public:
  CoefficientsWriter(uint8_t* to, int64_t capacity) : to_(to), capacity_(capacity) {}

  // planes: their sizes. quants: of each component 64 in natural order.
  void begin(const Planes& planes, const uint16_t* const* quants);
  // The next row of blocks, of each component its rows in turn, in natural order.
  void row(const int16_t (*blocks)[kCoefficients], int64_t count);
  // How many bytes it takes: all are written where there is room for them.
  int64_t end();

 private:
  void put(int64_t at, const void* bytes, int64_t count);
  void mark();

  uint8_t* to_;
  int64_t capacity_;
  int64_t index_ = 0, at_ = 0;
};

}  // namespace greenload
