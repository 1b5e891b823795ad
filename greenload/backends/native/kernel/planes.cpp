#include "planes.h"

#include <algorithm>
#include <cstring>

#include "decode.h"
#include "form_head.h"
#include "planes_rows.h"

namespace greenload {

namespace {

constexpr FormHead kHead = {"GLYC", 1, "planes"};
constexpr int64_t kBehind = 64;
// libjpeg upsamples narrower chroma by repeating it.
constexpr int64_t kNarrowestFancy = 3;

}  // namespace

int64_t Planes::bytes() const {
  return kFormHead + height * width + 2 * chroma_height() * chroma_width() + kBehind;
}

void Planes::point(const uint8_t* file) {
  luma = {file + kFormHead, width};
  chroma[0] = {luma.data + height * width, chroma_width()};
  chroma[1] = {chroma[0].data + chroma_height() * chroma_width(), chroma_width()};
}

bool are_planes(const uint8_t* file, int64_t length) { return kHead.begins(file, length); }

Planes planes_of(const uint8_t* file, int64_t length) {
  Planes planes = kHead.read(file, length);
  if (length != planes.bytes()) {
    kHead.refuse();
  }
  planes.point(file);
  return planes;
}

void frame_planes(const Planes& planes, uint8_t* file) {
  kHead.write(planes, file);
  memset(file + planes.bytes() - kBehind, 0, kBehind);
}

void PlanesDecoder::row(int64_t y, uint8_t* to) {
  const Planes& planes = planes_;
  const Window& window = window_;
  const PlaneLoops& loops = plane_loops();
  const uint8_t* luma = planes.luma.row(y) + window.left;
  if (planes.components == 1) {
    return loops.convert_grey(luma, to, window.width);
  }
  if (planes.across == 1 && planes.down == 1) {
    return loops.convert(luma, planes.chroma[0].row(y) + window.left, planes.chroma[1].row(y) + window.left, to,
                         window.width);
  }
  // The row of chroma that this one lies in, and the other one that it is near to.
  const int64_t near = y / planes.down;
  const int64_t far = std::clamp<int64_t>(y % 2 ? near + 1 : near - 1, 0, planes.chroma_height() - 1);
  const int64_t columns = planes.chroma_width();
  const int64_t begin = window.left / planes.across;
  const int64_t stop = (window.left + window.width + planes.across - 1) / planes.across;
  const uint8_t* rows[2];
  for (int c = 0; c < 2; c++) {
    const uint8_t* own = planes.chroma[c].row(near);
    const uint8_t* other = planes.chroma[c].row(far);
    int16_t* sums = sums_.of<int16_t>(columns + 64) + 32;  // of column 0; there are some in front of it
    uint8_t* wide = chroma_[c].bytes(planes.across * (stop - begin) + 64);
    if (planes.across == 1) {  // 4:4:0
      loops.blend(own + begin, other + begin, sums, stop - begin);
      loops.narrow(sums, wide, stop - begin, y % 2 ? 2 : 1);
    } else if (columns < kNarrowestFancy) {
      for (int64_t i = begin; i < stop; i++) {
        wide[2 * (i - begin)] = wide[2 * (i - begin) + 1] = own[i];
      }
    } else {
      const int64_t from = std::max<int64_t>(0, begin - 1), to_column = std::min(columns, stop + 1);
      if (planes.down == 1) {  // 4:2:2
        loops.widen(own + from, sums + from, to_column - from);
      } else {
        loops.blend(own + from, other + from, sums + from, to_column - from);
      }
      // Beyond the image's border its last column is repeated.
      if (begin == 0) {
        sums[-1] = sums[0];
      }
      if (to_column == columns) {
        sums[columns] = sums[columns - 1];
      }
      planes.down == 1 ? loops.spread(sums + begin, wide, stop - begin, 1, 2, 2)
                       : loops.spread(sums + begin, wide, stop - begin, 8, 7, 4);
    }
    rows[c] = wide + (window.left - begin * planes.across);
  }
  loops.convert(luma, rows[0], rows[1], to, window.width);
}

Image PlanesDecoder::open(const Planes& planes, const Window& window) {
  check_window(window, planes.height, planes.width);
  planes_ = planes;
  window_ = window;
  pitch = window.width * 3;
  return made_by(this, window.height, window.width);
}

void PlanesDecoder::make(int64_t first, int64_t count, uint8_t* const* places) {
  for (int64_t i = 0; i < count; i++) {
    row(window_.top + first + i, places[i]);
  }
}

void PlanesDecoder::trim(size_t limit) {
  release_above(limit, {&sums_, &chroma_[0], &chroma_[1]});
}

}  // namespace greenload
