#include "planes.h"

#include <algorithm>
#include <cstring>

#include "decode.h"
#include "failure.h"
#include "planes_rows.h"
#include "probe.h"

namespace greenload {

namespace {

constexpr char kMagic[] = "GLYC";
constexpr uint8_t kVersion = 1;
constexpr int64_t kBehind = 64;
// libjpeg upsamples narrower chroma by repeating it.
constexpr int64_t kNarrowestFancy = 3;

}  // namespace

int64_t Planes::bytes() const {
  return kPlanesHeader + height * width + 2 * chroma_height() * chroma_width() + kBehind;
}

void Planes::point(const uint8_t* file) {
  luma = {file + kPlanesHeader, width};
  chroma[0] = {luma.data + height * width, chroma_width()};
  chroma[1] = {chroma[0].data + chroma_height() * chroma_width(), chroma_width()};
}

bool are_planes(const uint8_t* file, int64_t length) { return length >= 4 && memcmp(file, kMagic, 4) == 0; }

Planes planes_of(const uint8_t* file, int64_t length) {
  if (length < kPlanesHeader || !are_planes(file, length) || file[4] != kVersion) {
    fail(GL_BAD_FILE, "planes of another version");
  }
  Planes planes;
  planes.components = file[5];
  planes.across = file[6];
  planes.down = file[7];
  uint32_t sides[2];
  memcpy(sides, file + 8, sizeof sides);
  planes.width = sides[0];
  planes.height = sides[1];
  const bool known = (planes.components == 1 || planes.components == 3) && planes.across >= 1 && planes.across <= 2 &&
                     planes.down >= 1 && planes.down <= 2;
  if (!known || planes.width < 1 || planes.height < 1 || planes.width > kLongestSide ||
      planes.height > kLongestSide || planes.height * planes.width >= kMostValues || length != planes.bytes()) {
    fail(GL_BAD_FILE, "planes that aren't whole");
  }
  planes.point(file);
  return planes;
}

void frame_planes(const Planes& planes, uint8_t* file) {
  memset(file, 0, kPlanesHeader);
  memcpy(file, kMagic, 4);
  file[4] = kVersion;
  file[5] = static_cast<uint8_t>(planes.components);
  file[6] = static_cast<uint8_t>(planes.across);
  file[7] = static_cast<uint8_t>(planes.down);
  const uint32_t sides[2] = {static_cast<uint32_t>(planes.width), static_cast<uint32_t>(planes.height)};
  memcpy(file + 8, sides, sizeof sides);
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
