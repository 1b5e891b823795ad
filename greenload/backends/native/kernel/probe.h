// Which files are plain JPEGs: those that gl_run decodes as every backend would. The rules are those of
// greenload/sources/formats/jpeg.py, exif.py and memory.py; what is rare is left to them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "abi.h"

namespace greenload {

constexpr int kMostScans = 100;                    // jpeg.py, _MOST_SCANS
constexpr int64_t kMostValues = int64_t{1} << 29;  // base.py, MAX_VALUES
constexpr int64_t kLongestSide = 65500;            // libjpeg, JPEG_MAX_DIMENSION
constexpr int64_t kPixelBytes = 11;                // memory.py, PIXEL_BYTES["JPEG"]

gl_header probe(const uint8_t* file, int64_t length, bool exif, int64_t max_bytes);

struct Bytes {
  const uint8_t* data;
  size_t size;
};
// What the segment holds, behind its length, from which exif.py takes a JPEG's orientation; null where there is none.
Bytes exif_of_jpeg(const uint8_t* file, size_t length);
// Whether a segment of APP1 holds EXIF.
bool is_exif(const uint8_t* data, size_t size);

}  // namespace greenload
