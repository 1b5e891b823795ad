#include "forms.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>

#include "failure.h"
#include "probe.h"
#include "recode.h"

namespace greenload {

namespace {

constexpr int64_t kAtATime = 16;  // rows that are made

Window whole(int64_t height, int64_t width) { return {0, 0, height, width}; }

bool is_ppm(const uint8_t* file, int64_t length) { return length > 2 && file[0] == 'P' && file[1] == '6'; }

bool is_packed(const uint8_t* file, int64_t length) { return are_planes(file, length) || are_coefficients(file, length); }

gl_header header_of(const uint8_t* file, int64_t length) { return probe(file, length, false, INT64_MAX); }

// Whether `size` bytes fit; how many are needed is said.
bool fits(int64_t size, int64_t capacity, int64_t* needed) {
  *needed = size;
  return size <= capacity;
}

int64_t copied(const uint8_t* from, int64_t length, uint8_t* out, int64_t capacity, int64_t* needed) {
  if (!fits(length, capacity, needed)) {
    return 0;
  }
  memcpy(out, from, length);
  return length;
}

// Whether planes and coefficients give just the pixels that this libjpeg gives, of each kind of subsampling: how it
// upsamples isn't the same in every version. The first image that is large enough tells of its kind, for the whole
// process; a smaller one only of itself.
enum Trust { kUnknown, kExact, kOther };
struct Kinds {
  std::atomic<int> grey, colours[2][2];

  std::atomic<int>& of(const Planes& planes) {
    return planes.components == 1 ? grey : colours[planes.across - 1][planes.down - 1];
  }
};
Kinds trusted_planes, trusted_coefficients;
constexpr int64_t kTelling = 4096;  // pixels of which one image tells of its kind

bool same_pixels(const uint8_t* file, int64_t length, const uint8_t* kept, int64_t bytes) {
  JpegDecoder libjpeg;
  Decoder decoder;
  libjpeg.open(file, static_cast<size_t>(length), whole);
  const Image made = decoder.decode(kept, bytes, whole, nullptr, 0);
  Buffer row;
  uint8_t* const expected = row.bytes(static_cast<size_t>(libjpeg.pitch));
  for (int64_t y = 0; y < made.height; y++) {
    libjpeg.make(y, 1, &expected);
    if (memcmp(expected + libjpeg.offset, made.row(y), made.row_bytes()) != 0) {
      return false;
    }
  }
  return true;
}

// Throws a Failure where what is kept of a file doesn't give its pixels.
void check_pixels(Kinds& kinds, const Planes& planes, const uint8_t* file, int64_t length, const uint8_t* kept,
                  int64_t bytes) {
  std::atomic<int>& trust = kinds.of(planes);
  int known = trust;
  const bool tells = planes.height * planes.width >= kTelling && planes.height > 16 && planes.width > 16;
  if (known == kExact && tells) {
    return;
  }
  if (known == kOther) {
    fail(GL_BAD_FILE, "what would be kept of files of its kind doesn't give the pixels that libjpeg gives");
  }
  const bool same = same_pixels(file, length, kept, bytes);
  if (tells && known == kUnknown) {
    trust.compare_exchange_strong(known, same ? kExact : kOther);
  }
  if (!same) {
    fail(GL_BAD_FILE, "what would be kept of it doesn't give the pixels that libjpeg gives");
  }
}

int64_t to_planes(const uint8_t* file, int64_t length, uint8_t* out, int64_t capacity, int64_t* needed) {
  Recoder recoder;
  Planes planes = recoder.plan(file, static_cast<size_t>(length));
  if (!fits(planes.bytes(), capacity, needed)) {
    return 0;
  }
  recoder.read(planes, out);
  if (planes.components == 3) {
    check_pixels(trusted_planes, planes, file, length, out, planes.bytes());
  }
  return planes.bytes();
}

int64_t to_coefficients(const uint8_t* file, int64_t length, uint8_t* out, int64_t capacity, int64_t* needed) {
  Recoder recoder;
  const Planes planes = recoder.plan(file, static_cast<size_t>(length));
  CoefficientsWriter writer(out, capacity);
  recoder.pack(planes, &writer);
  const int64_t bytes = writer.end();
  if (!fits(bytes, capacity, needed)) {
    return 0;
  }
  check_pixels(trusted_coefficients, planes, file, length, out, bytes);
  return bytes;
}

int64_t to_segments(const uint8_t* file, int64_t length, uint8_t* out, int64_t capacity, int64_t* needed) {
  const gl_header header = header_of(file, length);
  const int wanted = segments_wanted((header.height + 7) / 8);
  if (!wanted) {
    fail(GL_BAD_FILE, "too many rows for an index of its segments");
  }
  Recoder recoder;
  const Bytes made = recoder.transcode(file, static_cast<size_t>(length), wanted);
  size_t bytes = 0;
  const size_t size = index_segments(made.data, made.size, out, static_cast<size_t>(capacity), &bytes);
  *needed = static_cast<int64_t>(bytes);
  if (!size) {
    return 0;
  }
  Segments check;
  const gl_header after = header_of(out, *needed);
  if (!check.read(out, size) || !after.plain || after.height != header.height || after.width != header.width) {
    fail(GL_BAD_FILE, "its segments can't be indexed");
  }
  return *needed;
}

int64_t to_pixels(const uint8_t* file, int64_t length, uint8_t* out, int64_t capacity, int64_t* needed) {
  if (is_ppm(file, length)) {
    decode_ppm(file, static_cast<size_t>(length), whole);
    return copied(file, length, out, capacity, needed);
  }
  const gl_header header = is_packed(file, length) ? probe_kept(file, length) : header_of(file, length);
  char begin[64];
  const int head = snprintf(begin, sizeof begin, "P6\n%d %d\n255\n", header.width, header.height);
  const int64_t pixels = int64_t{header.height} * header.width * 3;
  if (!fits(head + pixels, capacity, needed)) {
    return 0;
  }
  memcpy(out, begin, head);
  Decoder decoder;
  const Image image = decoder.decode(file, length, whole, out + head, pixels);
  if (image.data != out + head) {
    memcpy(out + head, image.data, pixels);
  }
  return head + pixels;
}

}  // namespace

gl_header probe_kept(const uint8_t* file, int64_t length) {
  gl_header header = {0, 0, 0};
  try {
    int64_t height, width;
    if (are_planes(file, length)) {
      const Planes planes = planes_of(file, length);
      height = planes.height;
      width = planes.width;
    } else if (are_coefficients(file, length)) {
      const Coefficients coefficients = coefficients_of(file, length);
      height = coefficients.frame.height;
      width = coefficients.frame.width;
    } else if (is_ppm(file, length)) {
      const Image image = decode_ppm(file, static_cast<size_t>(length), whole);
      height = image.height;
      width = image.width;
    } else {
      return header;
    }
    header = {1, static_cast<int32_t>(height), static_cast<int32_t>(width)};
  } catch (const Failure&) {
  }
  return header;
}

int64_t transcode(const uint8_t* file, int64_t length, int32_t form, uint8_t* out, int64_t capacity, int64_t* needed) {
  if (length < 1) {
    fail(GL_BAD_FILE, "it is empty");
  }
  if (form == GL_ENCODED) {
    return copied(file, length, out, capacity, needed);
  }
  const bool jpeg = header_of(file, length).plain;
  if (form == GL_PIXELS && (jpeg || is_ppm(file, length) || is_packed(file, length))) {
    return to_pixels(file, length, out, capacity, needed);
  }
  if (!jpeg) {
    fail(GL_BAD_FILE, "it isn't a plain JPEG");
  }
  switch (form) {
    case GL_TRANSCODED: return to_segments(file, length, out, capacity, needed);
    case GL_PLANES: return to_planes(file, length, out, capacity, needed);
    case GL_COEFFICIENTS: return to_coefficients(file, length, out, capacity, needed);
  }
  fail(GL_BAD_CALL, "no form %d", form);
}

Image Decoder::open(const uint8_t* file, int64_t length, const Choose& choose) {
  const size_t size = static_cast<size_t>(length);
  if (are_planes(file, length)) {
    const Planes planes = planes_of(file, length);
    return planes_.open(planes, choose(planes.height, planes.width));
  }
  if (are_coefficients(file, length)) {
    const Coefficients coefficients = coefficients_of(file, length);
    return coefficients_.open(coefficients, choose(coefficients.frame.height, coefficients.frame.width));
  }
  if (is_ppm(file, length)) {
    return decode_ppm(file, size, choose);
  }
  if (!segments_.read(file, size)) {
    return own_.open(file, size, choose);
  }
  const Window window = choose(segments_.height(), segments_.width());
  check_window(window, segments_.height(), segments_.width());
  const Segments::Cut cut = segments_.cut(window, [this](size_t bytes) { return cut_.bytes(bytes); });
  return own_.open(cut.file, cut.length, [&](int64_t, int64_t) { return cut.window; });
}

Image Decoder::decode(const uint8_t* file, int64_t length, const Choose& choose, uint8_t* out, int64_t out_bytes) {
  Image image = open(file, length, choose);
  if (!image.source) {
    return image;
  }
  RowSource& source = *image.source;
  // Where it doesn't fit that is said where the result is delivered.
  const bool direct = out && source.pitch == image.row_bytes() && image.bytes() == out_bytes;
  uint8_t* begin = direct ? out : pixels_.bytes(source.pitch * image.height + kUnaligned) + kUnaligned + source.offset;
  Image made = dense(begin, image.height, image.width, 3, GL_UINT8);
  made.stride = source.pitch;
  // Rows may be written past their ends: each before the next one. `out` ends with the last.
  const int64_t behind = static_cast<int64_t>(kSlack) / source.pitch + 1;
  const int64_t rows = direct ? std::max<int64_t>(0, image.height - behind) : image.height;
  uint8_t* places[kAtATime];
  for (int64_t y = 0; y < rows;) {
    const int64_t count = std::min<int64_t>(kAtATime, rows - y);
    for (int64_t i = 0; i < count; i++) {
      places[i] = made.row(y + i) - source.offset;
    }
    source.make(y, count, places);
    y += count;
  }
  for (int64_t y = rows; y < image.height; y++) {
    places[0] = last_.bytes(source.pitch);
    source.make(y, 1, places);
    memcpy(made.row(y), places[0] + source.offset, made.row_bytes());
  }
  if (!direct) {
    made.end = pixels_.end();
  }
  return made;
}

void Decoder::trim(size_t limit) {
  release_above(limit, {&pixels_, &cut_, &last_});
  planes_.trim(limit);
  coefficients_.trim(limit);
  own_.trim(limit);
}

}  // namespace greenload
