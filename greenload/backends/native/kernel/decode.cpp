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

bool JpegDecoder::read(JDIMENSION skipped, uint8_t* first, size_t pitch, JDIMENSION rows) {
  if (setjmp(errors_.jump)) {
    return false;
  }
  if (skipped && jpeg_skip_scanlines(&info_, skipped) != skipped) {
    strcpy(errors_.reason, "rows are missing");
    return false;
  }
  const JDIMENSION stop = info_.output_scanline + rows;
  while (info_.output_scanline < stop) {
    JSAMPROW at[8];  // as many as libjpeg has at a time, at most
    const JDIMENSION count = std::min<JDIMENSION>(8, stop - info_.output_scanline);
    const JDIMENSION begin = info_.output_scanline - (stop - rows);
    for (JDIMENSION i = 0; i < count; i++) {
      at[i] = first + (begin + i) * pitch;
    }
    jpeg_read_scanlines(&info_, at, count);
  }
  return true;
}

void JpegDecoder::stop() { jpeg_abort_decompress(&info_); }

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

Image JpegDecoder::decode(const uint8_t* file, size_t length, const Choose& choose, Buffer& memory, uint8_t* out,
                          int64_t out_bytes) {
  struct Stopped {  // however this ends
    JpegDecoder* decoder;
    ~Stopped() { decoder->stop(); }
  } stopped{this};
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
  const int64_t skipped = parts ? wanted.top : 0, above = parts ? 0 : wanted.top;
  const int64_t rows = parts ? wanted.height : wanted.top + wanted.height;
  const int64_t pitch = static_cast<int64_t>(info_.output_width) * 3;
  const bool whole = pitch == wanted.width * 3 && above == 0;
  if (out && whole && out_bytes != pitch * rows) {
    out = nullptr;  // said where the result is delivered
  }
  uint8_t* pixels = out && whole ? out : memory.bytes(pitch * rows);
  if (!read(static_cast<JDIMENSION>(skipped), pixels, pitch, static_cast<JDIMENSION>(rows))) {
    fail(GL_BAD_FILE, "%s", errors_.reason);
  }
  Image image = dense(pixels, rows, pitch / 3, 3, GL_UINT8);
  if (pixels != out) {
    image.end = memory.end();
  }
  image.data += above * pitch + (wanted.left - left) * 3;
  image.height = wanted.height;
  image.width = wanted.width;
  return image;
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
