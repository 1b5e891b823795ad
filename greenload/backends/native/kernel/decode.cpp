#include "decode.h"

#include <algorithm>
#include <cstring>

#include "failure.h"
#include "probe.h"

namespace greenload {

namespace {

// Upsampling chroma reads a neighbour on each side, and takes a cut for the image's border: so many columns more are
// decoded.
constexpr int64_t kMargin = 2;

}  // namespace

JpegDecoder::JpegDecoder() {
  memset(&info_, 0, sizeof info_);
  info_.err = errors_.start();
  JpegErrors::limit_scans(&progress_);
  if (!create()) {
    fail(GL_BAD_CALL, "libjpeg doesn't start: %s", errors_.reason);
  }
}

JpegDecoder::~JpegDecoder() { jpeg_destroy_decompress(&info_); }

bool JpegDecoder::create() {
  if (setjmp(errors_.jump)) {
    return false;
  }
  jpeg_create_decompress(&info_);
  info_.progress = &progress_;
  return true;
}

bool JpegDecoder::start(const uint8_t* file, size_t length) {
  // Made anew for each file: else one that lacks tables of its own would be decoded with those of another.
  jpeg_destroy_decompress(&info_);
  if (!create()) {
    return false;
  }
  if (setjmp(errors_.jump)) {
    return false;
  }
  jpeg_mem_src(&info_, file, length);
  jpeg_read_header(&info_, TRUE);
  if (info_.num_components != 1 && info_.num_components != 3) {
    snprintf(errors_.reason, sizeof errors_.reason, "JPEG of %d components", info_.num_components);
    return false;
  }
  // Before anything is allocated: a progressive image is held as a whole.
  if (static_cast<int64_t>(info_.image_height) * info_.image_width * info_.num_components >= kMostValues) {
    strcpy(errors_.reason, "too large");
    return false;
  }
  info_.out_color_space = JCS_RGB;
  info_.dct_method = JDCT_ISLOW;
  info_.do_fancy_upsampling = TRUE;
  jpeg_start_decompress(&info_);
  return true;
}

// Decodes only columns from `left` on; libjpeg moves it to where a block begins.
bool JpegDecoder::cut(JDIMENSION* left, JDIMENSION* width) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  jpeg_crop_scanline(&info_, left, width);
  return true;
}

// Goes past rows in front of the first that is made.
bool JpegDecoder::skip(JDIMENSION rows) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  if (jpeg_skip_scanlines(&info_, rows) != rows) {
    strcpy(errors_.reason, "rows are missing");
    return false;
  }
  return true;
}

bool JpegDecoder::read(uint8_t* const* places, JDIMENSION rows) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  const JDIMENSION begin = info_.output_scanline;
  while (info_.output_scanline < begin + rows) {
    const JDIMENSION done = info_.output_scanline - begin;
    jpeg_read_scanlines(&info_, const_cast<JSAMPARRAY>(places) + done, rows - done);
  }
  return true;
}

// Decodes rows that nothing needs: going past them in the middle of an image isn't exact.
bool JpegDecoder::drop(JDIMENSION rows) {
  uint8_t* const place = dropped_.bytes(static_cast<size_t>(pitch));
  for (JDIMENSION i = 0; i < rows; i++) {
    if (!read(&place, 1)) {
      return false;
    }
  }
  return true;
}

void JpegDecoder::close() { jpeg_destroy_decompress(&info_); }

// Whether parts decode to the pixels that the whole has: of the usual kinds of subsampling, which tests look at.
bool JpegDecoder::exact_in_parts() const {
  const jpeg_component_info* components = info_.comp_info;
  if (info_.num_components == 1) {
    return components[0].h_samp_factor == 1 && components[0].v_samp_factor == 1;
  }
  for (int i = 1; i < 3; i++) {
    if (components[i].h_samp_factor != 1 || components[i].v_samp_factor != 1) {
      return false;
    }
  }
  return components[0].h_samp_factor <= 2 && components[0].v_samp_factor <= 2;
}

Image JpegDecoder::open(const uint8_t* file, size_t length, const Choose& choose) {
  if (!start(file, length)) {
    fail(GL_BAD_FILE, "%s", errors_.reason);
  }
  const int64_t height = info_.output_height, width = info_.output_width;
  const Window wanted = choose(height, width);
  check_window(wanted, height, width);
  const bool parts = exact_in_parts();
  JDIMENSION left = 0, columns = static_cast<JDIMENSION>(width);
  if (parts && wanted.width < width) {
    const int64_t begin = std::max<int64_t>(0, wanted.left - kMargin);
    left = static_cast<JDIMENSION>(begin);
    columns = static_cast<JDIMENSION>(std::min(width, wanted.left + wanted.width + kMargin) - begin);
    if (!cut(&left, &columns)) {
      fail(GL_BAD_FILE, "%s", errors_.reason);
    }
  }
  if (parts && wanted.top && !skip(static_cast<JDIMENSION>(wanted.top))) {
    fail(GL_BAD_FILE, "%s", errors_.reason);
  }
  top_ = wanted.top;
  pitch = static_cast<int64_t>(info_.output_width) * 3;
  offset = (wanted.left - left) * 3;
  return made_by(this, wanted.height, wanted.width);
}

void JpegDecoder::make(int64_t first, int64_t count, uint8_t* const* places) {
  const JDIMENSION unneeded = static_cast<JDIMENSION>(top_ + first) - info_.output_scanline;
  if (!drop(unneeded) || !read(places, static_cast<JDIMENSION>(count))) {
    fail(GL_BAD_FILE, "%s", errors_.reason);
  }
}

namespace {

bool is_space(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

// A number of a PPM's header, behind white space; −1 where there is none.
int64_t ppm_number(const uint8_t* file, size_t length, size_t* at) {
  const size_t begin = *at;
  while (*at < length && is_space(file[*at])) {
    ++*at;
  }
  if (*at == begin) {
    return -1;
  }
  int64_t number = -1;
  for (; *at < length && file[*at] >= '0' && file[*at] <= '9'; ++*at) {
    number = std::max<int64_t>(number, 0) * 10 + (file[*at] - '0');
    if (number >= kMostValues) {
      return -1;
    }
  }
  return number;
}

}  // namespace

Image decode_ppm(const uint8_t* file, size_t length, const Choose& choose) {
  size_t at = 2;
  const int64_t width = ppm_number(file, length, &at), height = ppm_number(file, length, &at);
  const int64_t largest = ppm_number(file, length, &at);
  if (width < 1 || height < 1 || largest != 255 || at >= length || !is_space(file[at])) {
    fail(GL_BAD_FILE, "PPM that isn't P6 with 255 as its largest value");
  }
  at++;
  if (height * width >= kMostValues || static_cast<int64_t>(length - at) < height * width * 3) {
    fail(GL_BAD_FILE, "PPM of %lld×%lld pixels that ends early", static_cast<long long>(width),
         static_cast<long long>(height));
  }
  Image image = dense(const_cast<uint8_t*>(file) + at, height, width, 3, GL_UINT8);
  image.end = file + length;
  image.writable = false;
  const Window window = choose(height, width);
  check_window(window, height, width);
  image.data += window.top * image.stride + window.left * 3;
  image.height = window.height;
  image.width = window.width;
  return image;
}

void check_window(const Window& window, int64_t height, int64_t width) {
  if (window.top < 0 || window.left < 0 || window.height < 1 || window.width < 1 ||
      window.top > height - window.height || window.left > width - window.width) {
    fail(GL_BAD_CALL, "window %lld, %lld, %lld, %lld of an image of %lld rows, %lld columns",
         static_cast<long long>(window.top), static_cast<long long>(window.left), static_cast<long long>(window.height),
         static_cast<long long>(window.width), static_cast<long long>(height), static_cast<long long>(width));
  }
}

}  // namespace greenload

#ifdef GL_STATIC_LIBJPEG
// Debian's libjpeg.a is compiled for programs: its default error handlers, which aren't used here, take `stderr` to lie
// in the same file, so that no library could be linked with it. This one lies there.
extern "C" {
__attribute__((visibility("hidden"))) FILE* gl_unused_stderr __asm__("stderr") = nullptr;
}
#endif
