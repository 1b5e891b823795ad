// Which files are plain JPEGs: those that gl_run decodes as every backend would. The rules are those of
// greenload/sources/formats/jpeg.py, exif.py and memory.py; what is rare is left to them.
#pragma once
#include <cstdint>

#include "abi.h"

namespace greenload {

constexpr int kMostScans = 100;                    // jpeg.py, _MOST_SCANS
constexpr int64_t kMostValues = int64_t{1} << 29;  // base.py, MAX_VALUES
constexpr int64_t kPixelBytes = 11;                 // memory.py, PIXEL_BYTES["JPEG"]

gl_header probe(const uint8_t* file, int64_t length, bool exif, int64_t max_bytes);

}  // namespace greenload
