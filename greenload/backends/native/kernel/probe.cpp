#include "probe.h"

#include <algorithm>
#include <cstring>

namespace greenload {

namespace {

constexpr int kMostSegments = 4096;      // jpeg.py, MOST_SEGMENTS
constexpr int kCoefficients = 64;
constexpr int kExifSteps = 4096;          // exif.py, JPEG_STEPS
constexpr size_t kExifBehind = 8192;      // exif.py, JPEG_BEHIND

enum Marker {
  kSof0 = 0xC0,
  kSof2 = 0xC2,
  kDht = 0xC4,
  kEoi = 0xD9,
  kSos = 0xDA,
  kDqt = 0xDB,
  kDri = 0xDD,
  kApp0 = 0xE0,
  kApp1 = 0xE1,
  kApp15 = 0xEF,
  kCom = 0xFE
};

int at16(const uint8_t* from) { return from[0] << 8 | from[1]; }

bool is_plain_segment(int marker) {
  return marker == kSof0 || marker == kSof2 || marker == kDht || marker == kSos || marker == kDqt || marker == kDri ||
         marker == kCom || (marker >= kApp0 && marker <= kApp15);
}

// The marker that ends a scan's data: neither a stuffed byte nor a restart marker. `end` where there is none.
const uint8_t* scan_end(const uint8_t* at, const uint8_t* end) {
  while (at + 1 < end && (at = static_cast<const uint8_t*>(memchr(at, 0xFF, end - at - 1)))) {
    if (at[1] != 0 && at[1] != 0xFF && (at[1] < 0xD0 || at[1] > 0xD7)) {
      return at;
    }
    at++;
  }
  return end;
}

uint32_t number(const uint8_t* from, int size, bool little) {
  uint32_t value = 0;
  for (int i = 0; i < size; i++) {
    value = value << 8 | from[little ? size - 1 - i : i];
  }
  return value;
}

// Whether a block of EXIF, a TIFF's directory, may state an orientation other than 1. exif.py takes the first entry
// that is valid; here any counts, of whatever type.
bool states_turn(const uint8_t* block, int64_t length) {
  if (length < 8 || (memcmp(block, "II*\0", 4) != 0 && memcmp(block, "MM\0*", 4) != 0)) {
    return false;
  }
  const bool little = block[0] == 'I';
  const int64_t start = number(block + 4, 4, little);
  if (start + 2 > length) {
    return false;
  }
  const int64_t entries = number(block + start, 2, little);
  for (int64_t i = 0; i < entries && start + 2 + 12 * (i + 1) <= length; i++) {
    const uint8_t* entry = block + start + 2 + 12 * i;
    if (number(entry, 2, little) != 0x0112) {
      continue;
    }
    const bool is_short = number(entry + 2, 2, little) == 3 && number(entry + 4, 4, little) == 1;
    if (!is_short || number(entry + 8, 2, little) != 1) {
      return true;
    }
  }
  return false;
}

// Which bits of a progressive image's coefficients no scan has sent.
class Progress {
 public:
  void expect(const uint8_t* components, int count) {
    count_ = count;
    for (int i = 0; i < count; i++) {
      ids_[i] = components[3 * i];
    }
    memset(missing_, 0xFF, sizeof missing_);
  }

  void note(const uint8_t* header, int length) {
    if (length < 4 || length != 2 * header[0] + 4) {
      return;
    }
    const int first = header[length - 3], last = header[length - 2], bits = header[length - 1] & 15;
    if (first > last || last >= kCoefficients) {
      return;
    }
    for (int i = 0; i < header[0]; i++) {
      for (int c = 0; c < count_; c++) {
        if (ids_[c] == header[1 + 2 * i]) {
          memset(missing_[c] + first, bits, last + 1 - first);
        }
      }
    }
  }

  bool partial() const {
    for (int c = 0; c < count_; c++) {
      for (int i = 0; i < kCoefficients; i++) {
        if (missing_[c][i]) {
          return true;
        }
      }
    }
    return false;
  }

 private:
  int count_ = 0;
  uint8_t ids_[3] = {};
  uint8_t missing_[3][kCoefficients];
};

struct Jpeg {
  int64_t height = 0, width = 0;
  int components = 0;
  bool progressive = false;
};

// The frame of 8 bits, of 1 or 3 components; false for others.
bool frame_of(const uint8_t* segment, int length, int marker, Jpeg* jpeg) {
  if (length < 8 || segment[2] != 8) {
    return false;
  }
  jpeg->height = at16(segment + 3);
  jpeg->width = at16(segment + 5);
  jpeg->components = segment[7];
  jpeg->progressive = marker == kSof2;
  if ((jpeg->components != 1 && jpeg->components != 3) || length != 8 + 3 * jpeg->components) {
    return false;
  }
  if (jpeg->height < 1 || jpeg->width < 1 || jpeg->height > kLongestSide || jpeg->width > kLongestSide) {
    return false;
  }
  return jpeg->height * jpeg->width * jpeg->components < kMostValues;
}

// jpeg.py's `parse`: whether the segments and scans of a plain JPEG follow each other up to its end marker.
bool parse(const uint8_t* file, const uint8_t* end, bool exif, Jpeg* jpeg) {
  Progress progress;
  int segments = 0, scans = 0, most_scans = kMostScans;
  const uint8_t* at = file + 2;
  while (end - at >= 2) {
    if (*at != 0xFF) {
      return false;
    }
    while (at + 1 < end && at[1] == 0xFF) {
      at++;  // fill bytes
    }
    if (end - at < 2) {
      return false;
    }
    const int marker = at[1];
    if (marker == kEoi) {
      return scans > 0 && !(jpeg->progressive && progress.partial());
    }
    if (++segments > kMostSegments || !is_plain_segment(marker) || end - at < 4) {
      return false;
    }
    const uint8_t* segment = at + 2;
    const int length = at16(segment);
    if (length < 2 || end - segment < length || (marker == kSos && length < 3)) {
      return false;
    }
    if (marker == kSof0 || marker == kSof2) {
      if (jpeg->components || !frame_of(segment, length, marker, jpeg)) {
        return false;
      }
      progress.expect(segment + 8, jpeg->components);
    }
    if (exif && marker == kApp1 && is_exif(segment + 2, length - 2) && states_turn(segment + 8, length - 8)) {
      return false;
    }
    at = segment + length;
    if (marker != kSos) {
      continue;
    }
    if (!jpeg->components || length != 6 + 2 * segment[2]) {
      return false;
    }
    if (jpeg->progressive) {
      progress.note(segment + 2, length - 2);
    }
    // A baseline image whose first scan has every component is done with it.
    if (++scans == 1 && !jpeg->progressive && segment[2] == jpeg->components) {
      most_scans = 1;
    }
    if (scans > most_scans) {
      return false;
    }
    at = scan_end(at, end);
  }
  return false;
}

}  // namespace

gl_header probe(const uint8_t* file, int64_t length, bool exif, int64_t max_bytes) {
  gl_header header = {0, 0, 0};
  if (length < 4 || memcmp(file, "\xFF\xD8\xFF", 3) != 0) {
    return header;
  }
  Jpeg jpeg;
  if (!parse(file, file + length, exif, &jpeg)) {
    return header;
  }
  if (jpeg.height * jpeg.width * kPixelBytes > max_bytes) {
    return header;
  }
  header.plain = 1;
  header.height = static_cast<int32_t>(jpeg.height);
  header.width = static_cast<int32_t>(jpeg.width);
  return header;
}

bool is_exif(const uint8_t* data, size_t size) { return size >= 6 && memcmp(data, "Exif\0\0", 6) == 0; }

Bytes exif_of_jpeg(const uint8_t* file, size_t length) {
  size_t at = 2, limit = length;
  for (int step = 0; step < kExifSteps; step++) {
    if (at + 10 > limit || file[at] != 0xFF || file[at + 1] == kEoi || file[at + 1] == kSos) {
      break;
    }
    const int marker = file[at + 1];
    if (marker == 0xFF) {
      at++;
      continue;
    }
    if (limit == length && !((marker >= kApp0 && marker <= kApp15) || marker == kCom)) {
      limit = std::min(limit, at + kExifBehind);
    }
    const size_t end = at + 2 + static_cast<size_t>(at16(file + at + 2));
    if (marker == kApp1 && end >= at + 10 && is_exif(file + at + 4, length - at - 4)) {
      return {file + at + 4, std::min(end, length) - at - 4};
    }
    at = end;
  }
  return {nullptr, 0};
}

}  // namespace greenload
