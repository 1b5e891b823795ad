#include "segments.h"

#include <algorithm>
#include <cstring>

#include "crc32c.h"
#include "failure.h"

namespace greenload {

namespace {

constexpr size_t kFixed = kIndexNameBytes + 4 + 10;  // bytes in front of the lengths
constexpr size_t kMostLengths = 65533 - kFixed;      // bytes of them, in one APP segment
// Upsampling chroma reads a neighbour on each side, and takes a cut for the image's border. Chroma of one or two columns
// is upsampled in another way; so may be that of as few rows, by a GPU.
constexpr int64_t kMargin = 2, kNarrowest = 8;
constexpr int kBlock = 8;

enum Marker { kSof0 = 0xC0, kDht = 0xC4, kEoi = 0xD9, kSos = 0xDA, kDqt = 0xDB, kDri = 0xDD };

int big16(const uint8_t* from) { return from[0] << 8 | from[1]; }
int little16(const uint8_t* from) { return from[1] << 8 | from[0]; }

void write16(uint8_t* to, size_t value) {
  to[0] = static_cast<uint8_t>(value);
  to[1] = static_cast<uint8_t>(value >> 8);
}

}  // namespace

bool Segments::read(const uint8_t* file, size_t length) {
  if (length < 6 + kFixed || file[0] != 0xFF || file[1] != 0xD8 || file[2] != 0xFF || file[3] != kIndexMarker ||
      memcmp(file + 6, kIndexName, kIndexNameBytes) != 0) {
    return false;
  }
  const size_t segment = static_cast<size_t>(big16(file + 4));
  if (segment < 2 + kFixed || length < 4 + segment) {
    return false;
  }
  file_ = file;
  length_ = length;
  const uint8_t* fields = file + 6 + kIndexNameBytes + 4;
  const int bytes = fields[0];
  interval_ = little16(fields + 2);
  per_row_ = little16(fields + 4);
  rows_ = little16(fields + 6);
  const size_t count = static_cast<size_t>(per_row_) * rows_;
  if ((bytes != 2 && bytes != 3) || interval_ < 1 || segment != 2 + kFixed + count * bytes) {
    return false;
  }
  if (!read_header(file + 4 + segment)) {
    return false;
  }
  uint32_t sum;
  memcpy(&sum, file + 6 + kIndexNameBytes, 4);
  if (sum != crc32c(fields, scan_ - static_cast<size_t>(fields - file))) {
    return false;
  }
  return read_lengths(file + 6 + kFixed, count, bytes);
}

// The header up to the scan's data.
bool Segments::read_header(const uint8_t* at) {
  header_.clear();
  components_ = 0;
  int interval = 0;
  const uint8_t* end = file_ + length_;
  for (;;) {
    if (end - at < 4 || at[0] != 0xFF) {
      return false;
    }
    const int marker = at[1], length = big16(at + 2);
    if (length < 2 || end - at < 2 + length) {
      return false;
    }
    switch (marker) {
      case kSof0:
        frame_ = header_.size();
        if (components_ || !read_frame(at + 2, length)) {
          return false;
        }
        break;
      case kDri:
        if (length != 4) {
          return false;
        }
        interval = big16(at + 4);
        break;
      case kSos:
        if (length < 3 || !components_ || at[4] != components_ || interval != interval_) {
          return false;
        }
        break;
      case kDqt:
      case kDht:
      case 0xE0:
      case 0xEE: break;
      default:  // what no decoder needs
        if ((marker & 0xF0) != 0xE0 && marker != 0xFE) {
          return false;
        }
        at += 2 + length;
        continue;
    }
    header_.push_back({at, static_cast<size_t>(length) + 2});
    at += 2 + length;
    if (marker == kSos) {
      scan_ = static_cast<size_t>(at - file_);
      return true;
    }
  }
}

bool Segments::read_frame(const uint8_t* frame, int length) {
  if (length < 8) {
    return false;
  }
  height_ = big16(frame + 3);
  width_ = big16(frame + 5);
  components_ = frame[7];
  if (height_ < 1 || width_ < 1 || (components_ != 1 && components_ != 3) || length != 8 + 3 * components_) {
    return false;
  }
  across_ = frame[9] >> 4;
  down_ = frame[9] & 15;
  exact_ = across_ >= 1 && across_ <= 2 && down_ >= 1 && down_ <= 2;
  for (int c = 1; c < components_; c++) {
    exact_ = exact_ && frame[9 + 3 * c] == 0x11;
  }
  if (components_ == 1) {
    exact_ = exact_ && across_ == 1 && down_ == 1;
  }
  const int64_t wide = int64_t{kBlock} * across_, tall = int64_t{kBlock} * down_;
  // Of other samplings it is read as a whole.
  return !exact_ || ((width_ + wide - 1) / wide == int64_t{per_row_} * interval_ && (height_ + tall - 1) / tall == rows_);
}

bool Segments::read_lengths(const uint8_t* lengths, size_t count, int bytes) {
  begins_.resize(count + 1);
  size_t at = scan_;
  for (size_t i = 0; i < count; i++, lengths += bytes) {
    begins_[i] = at;
    at += static_cast<size_t>(little16(lengths)) + (bytes == 3 ? static_cast<size_t>(lengths[2]) << 16 : 0) + 2;
  }
  begins_[count] = at;
  return at <= length_ && file_[at - 2] == 0xFF && file_[at - 1] == kEoi;
}

// Whether the marker that ends a segment is where the index says.
bool Segments::marked(int64_t segment) const {
  if (segment < 0) {
    return true;
  }
  const bool last = static_cast<size_t>(segment) + 2 == begins_.size();
  const uint8_t* marker = file_ + begins_[segment + 1] - 2;
  return marker[0] == 0xFF && marker[1] == (last ? int64_t{kEoi} : 0xD0 + segment % 8);
}

// The header of a smaller JPEG; where its scan begins.
uint8_t* Segments::write_header(uint8_t* to, int64_t height, int64_t width) const {
  *to++ = 0xFF;
  *to++ = 0xD8;
  for (size_t i = 0; i < header_.size(); i++) {
    memcpy(to, header_[i].data, header_[i].length);
    if (i == frame_) {
      to[5] = static_cast<uint8_t>(height >> 8);
      to[6] = static_cast<uint8_t>(height);
      to[7] = static_cast<uint8_t>(width >> 8);
      to[8] = static_cast<uint8_t>(width);
    }
    to += header_[i].length;
  }
  return to;
}

Segments::Cut Segments::cut(const Window& window, const Memory& memory) const {
  const Cut all = {file_, length_, window};
  if (!exact_) {
    return all;
  }
  const int64_t wide = int64_t{kBlock} * across_ * interval_, tall = int64_t{kBlock} * down_;
  int64_t top = std::max<int64_t>(0, window.top - kMargin) / tall;
  int64_t bottom = (std::min(height_, window.top + window.height + kMargin) - 1) / tall + 1;
  int64_t left = std::max<int64_t>(0, window.left - kMargin) / wide;
  int64_t right = (std::min(width_, window.left + window.width + kMargin) - 1) / wide + 1;
  while (std::min(width_, right * wide) - left * wide < std::min(width_, kNarrowest)) {
    left > 0 ? left-- : right++;
  }
  while (std::min(height_, bottom * tall) - top * tall < std::min(height_, kNarrowest)) {
    top > 0 ? top-- : bottom++;
  }
  const int64_t columns = std::min(width_, right * wide) - left * wide, lines = std::min(height_, bottom * tall) - top * tall;
  if (columns == width_ && lines == height_) {
    return all;
  }
  size_t size = 2;
  for (const Part& part : header_) {
    size += part.length;
  }
  for (int64_t row = top; row < bottom; row++) {
    size += begins_[row * per_row_ + right] - begins_[row * per_row_ + left];
  }
  uint8_t* made = memory(size);
  if (!made) {
    return all;
  }
  uint8_t* to = write_header(made, lines, columns);
  int number = 0;
  for (int64_t row = top; row < bottom; row++) {
    const int64_t first = row * per_row_ + left, stop = row * per_row_ + right;
    if (!marked(first - 1)) {
      return all;
    }
    uint8_t* begin = to;
    memcpy(to, file_ + begins_[first], begins_[stop] - begins_[first]);
    for (int64_t i = first; i < stop; i++) {
      to = begin + (begins_[i + 1] - begins_[first]);
      if (!marked(i)) {
        return all;
      }
      to[-1] = static_cast<uint8_t>(0xD0 + number++ % 8);
    }
  }
  to[-1] = kEoi;
  return {made, size, {window.top - top * tall, window.left - left * wide, window.height, window.width}};
}

int segments_wanted(int64_t rows_of_mcus) {
  for (int wanted = kSegmentsPerRow; wanted > 0; wanted /= 2) {
    // There may be 2.5 times as many as are wanted, of 3 bytes each.
    if (rows_of_mcus * (5 * wanted / 2) * 3 <= static_cast<int64_t>(kMostLengths)) {
      return wanted;
    }
  }
  return 0;
}

namespace {

// What an index says of a transcoded JPEG.
struct Layout {
  size_t scan = 0, rows = 0, longest = 0;
  int interval = 0;
  std::vector<size_t> lengths;
  int bytes() const { return longest < 65536 ? 2 : 3; }  // of a length
};

// Where the scan's data begin; height and sampling are read on the way. 0 where it isn't baseline.
size_t scan_of(const uint8_t* file, size_t length, Layout* layout) {
  size_t at = 2;
  while (length - at >= 4) {
    const uint8_t* segment = file + at;
    if (segment[1] == kSof0) {
      const int64_t tall = segment[9] == 1 ? kBlock : int64_t{kBlock} * (segment[11] & 15);
      layout->rows = static_cast<size_t>((big16(segment + 5) + tall - 1) / tall);
    } else if (segment[1] == kDri) {
      layout->interval = big16(segment + 4);
    }
    at += 2 + static_cast<size_t>(big16(segment + 2));
    if (segment[1] == kSos) {
      return layout->rows && layout->interval ? at : 0;
    }
  }
  return 0;
}

Layout layout_of(const uint8_t* file, size_t length) {
  Layout layout;
  size_t begin = layout.scan = scan_of(file, length, &layout);
  if (!begin) {
    fail(GL_BAD_FILE, "its coefficients don't fit a baseline JPEG");
  }
  for (size_t at = begin; at + 1 < length; at++) {
    const void* found = memchr(file + at, 0xFF, length - 1 - at);
    if (!found) {
      break;
    }
    at = static_cast<size_t>(static_cast<const uint8_t*>(found) - file);
    if ((file[at + 1] >= 0xD0 && file[at + 1] <= 0xD7) || file[at + 1] == kEoi) {
      layout.lengths.push_back(at - begin);
      layout.longest = std::max(layout.longest, at - begin);
      begin = at + 2;
    }
  }
  if (layout.lengths.size() % layout.rows || layout.longest >> 24 ||
      layout.lengths.size() * layout.bytes() > kMostLengths) {
    fail(GL_BAD_FILE, "its segments can't be indexed");
  }
  return layout;
}

}  // namespace

size_t index_segments(const uint8_t* file, size_t length, uint8_t* out, size_t capacity, size_t* needed) {
  const Layout layout = layout_of(file, length);
  const int bytes = layout.bytes();
  const size_t segment = 2 + kFixed + layout.lengths.size() * bytes;
  *needed = length + 2 + segment;
  if (*needed > capacity) {
    return 0;
  }
  const uint8_t begin[6] = {
      0xFF, 0xD8, 0xFF, kIndexMarker, static_cast<uint8_t>(segment >> 8), static_cast<uint8_t>(segment)};
  memcpy(out, begin, sizeof begin);
  memcpy(out + 6, kIndexName, kIndexNameBytes);
  uint8_t* fields = out + 6 + kIndexNameBytes + 4;
  memset(fields, 0, 10);
  fields[0] = static_cast<uint8_t>(bytes);
  write16(fields + 2, static_cast<size_t>(layout.interval));
  write16(fields + 4, layout.lengths.size() / layout.rows);
  write16(fields + 6, layout.rows);
  uint8_t* next = fields + 10;
  for (size_t own : layout.lengths) {
    write16(next, own);
    if (bytes == 3) {
      next[2] = static_cast<uint8_t>(own >> 16);
    }
    next += bytes;
  }
  memcpy(next, file + 2, length - 2);
  const uint32_t sum = crc32c(fields, static_cast<size_t>(next - fields) + layout.scan - 2);
  memcpy(out + 6 + kIndexNameBytes, &sum, 4);
  return *needed;
}

}  // namespace greenload
