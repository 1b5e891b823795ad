// The form GL_TRANSCODED: a JPEG with restart markers and, in an APP9 segment right behind SOI, an index of the segments
// between them. Of a window only the segments that it needs are cut out, as a smaller JPEG.
//
// Bytes of the APP9 segment, behind its length; numbers are little-endian: name; CRC-32C of what follows here, and of
// the header behind this segment up to the scan's data; bytes of a length (2 or 3), 0; MCUs in a segment, segments in a
// row, rows (uint16 each); 0, 0; the segments' lengths.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "image.h"

namespace greenload {

constexpr int kIndexMarker = 0xE9;
constexpr char kIndexName[] = "GLIDX1";
constexpr size_t kIndexNameBytes = 6;
constexpr int kSegmentsPerRow = 8;

class Segments {
 public:
  // Whether a file is a JPEG with an index that is sound. The file must stay.
  bool read(const uint8_t* file, size_t length);
  int64_t height() const { return height_; }
  int64_t width() const { return width_; }

  struct Cut {
    const uint8_t* file;
    size_t length;
    Window window;  // in it
  };
  // Gives so many bytes; null where it has none.
  using Memory = std::function<uint8_t*(size_t)>;
  // What a window needs, in memory that is asked for once; all where there is none, or segments turn out not to lie
  // where the index says.
  Cut cut(const Window& window, const Memory& memory) const;

 private:
  struct Part {
    const uint8_t* data;
    size_t length;
  };
  bool read_header(const uint8_t* at);
  bool read_frame(const uint8_t* frame, int length);
  bool read_lengths(const uint8_t* lengths, size_t count, int bytes);
  bool marked(int64_t segment) const;
  uint8_t* write_header(uint8_t* to, int64_t height, int64_t width) const;

  const uint8_t* file_ = nullptr;
  size_t length_ = 0;
  int64_t height_ = 0, width_ = 0;
  int components_ = 0, across_ = 1, down_ = 1;  // of an MCU in blocks
  bool exact_ = false;                          // in parts
  int interval_ = 0, per_row_ = 0, rows_ = 0;
  std::vector<Part> header_;  // the segments that a decoder needs
  size_t frame_ = 0;          // which of them
  size_t scan_ = 0;
  std::vector<size_t> begins_;
};

// How many segments of a row a JPEG of a size should have, for their index to fit; 0 where none does.
int segments_wanted(int64_t rows_of_mcus);

// A transcoded JPEG with its index; how many bytes. 0 where `capacity` is too small: then *needed says how many.
// Throws a Failure where it can't be indexed.
size_t index_segments(const uint8_t* file, size_t length, uint8_t* out, size_t capacity, size_t* needed);

}  // namespace greenload
