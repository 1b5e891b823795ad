#include "levels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "color.h"
#include "failure.h"
#include "values.h"

namespace greenload {

namespace {

constexpr int kLevels = 256;
constexpr int64_t kPartBytes = 1 << 14;
constexpr int kRepeat = 48;  // values after which 1, 2, 3 or 4 channels fill vectors of 16
typedef uint8_t Sixteen __attribute__((vector_size(16)));

// Calls `work` with the first value of rows and how many there are: once, where there is no gap between them.
template <class Work>
void by_rows(const Image& image, Work work) {
  if (image.stride == image.row_bytes()) {
    return work(image.data, image.height * image.row_values());
  }
  for (int64_t y = 0; y < image.height; y++) {
    work(image.row(y), image.row_values());
  }
}

// Each channel's least and largest value, if they are beyond those of the images before.
void extend_range(const Image& image, uint8_t* low, uint8_t* high) {
  const int channels = image.channels;
  Sixteen least[3] = {~Sixteen{}, ~Sixteen{}, ~Sixteen{}}, most[3] = {};
  by_rows(image, [&](const uint8_t* values, int64_t count) {
    int64_t i = 0;
    for (; kRepeat % channels == 0 && i + kRepeat <= count; i += kRepeat) {
      for (int k = 0; k < 3; k++) {
        Sixteen levels;
        std::memcpy(&levels, values + i + 16 * k, 16);
        least[k] = levels < least[k] ? levels : least[k];
        most[k] = levels > most[k] ? levels : most[k];
      }
    }
    for (int c = 0; i < count; i++, c = c + 1 < channels ? c + 1 : 0) {
      low[c] = std::min(low[c], values[i]);
      high[c] = std::max(high[c], values[i]);
    }
  });
  for (int k = 0; kRepeat % channels == 0 && k < kRepeat; k++) {
    low[k % channels] = std::min(low[k % channels], least[k / 16][k % 16]);
    high[k % channels] = std::max(high[k % channels], most[k / 16][k % 16]);
  }
}

// Adds what each of 3 channels sums up to.
void add_channels(const Image& image, int64_t* sums) {
  constexpr int kMost = 65535 / 255;  // values that 16 bits hold the sum of
  by_rows(image, [&](const uint8_t* values, int64_t count) {
    int64_t i = 0;
    while (i + kRepeat <= count) {
      uint16_t part[kRepeat] = {};  // local, so that the compiler makes vectors of it
      const int64_t end = std::min(count - kRepeat, i + int64_t{kMost - 1} * kRepeat);
      for (; i <= end; i += kRepeat) {
        for (int k = 0; k < kRepeat; k++) {
          part[k] = static_cast<uint16_t>(part[k] + values[i + k]);
        }
      }
      for (int k = 0; k < kRepeat; k++) {
        sums[k % 3] += part[k];
      }
    }
    for (int c = 0; i < count; i++, c = c + 1 < 3 ? c + 1 : 0) {
      sums[c] += values[i];
    }
  });
}

// How often each level is there in each of kChannels. Neighbours are often alike, and to count the same level again
// must wait until it has been written: so each of four pixels has counts of its own.
template <int kChannels>
void count_pixels(const Image& image, uint32_t* counts) {
  constexpr int kSets = 4, kPixels = kSets * kChannels;
  uint32_t sets[kSets - 1][kChannels * kLevels] = {};
  uint32_t* const set[kSets] = {counts, sets[0], sets[1], sets[2]};
  by_rows(image, [&](const uint8_t* values, int64_t count) {
    int64_t i = 0;
    for (; i + kPixels <= count; i += kPixels) {
      for (int s = 0; s < kSets; s++) {
        for (int c = 0; c < kChannels; c++) {
          set[s][c * kLevels + values[i + s * kChannels + c]]++;
        }
      }
    }
    for (int c = 0; i < count; i++, c = c + 1 < kChannels ? c + 1 : 0) {
      counts[c * kLevels + values[i]]++;
    }
  });
  for (int k = 0; k < kChannels * kLevels; k++) {
    counts[k] += sets[0][k] + sets[1][k] + sets[2][k];
  }
}

void count_levels(const Image& image, uint32_t* counts) {
  std::fill_n(counts, static_cast<size_t>(image.channels) * kLevels, 0);
  switch (image.channels) {
    case 1: return count_pixels<1>(image, counts);
    case 3: return count_pixels<3>(image, counts);
  }
  by_rows(image, [&](const uint8_t* values, int64_t count) {
    for (int64_t i = 0; i < count; i += image.channels) {
      for (int c = 0; c < image.channels; c++) {
        counts[c * kLevels + values[i + c]]++;
      }
    }
  });
}

bool is_monotone(const uint8_t* table) {
  int rises = 0, falls = 0;
  for (int v = 1; v < kLevels; v++) {
    rises |= table[v] > table[v - 1];
    falls |= table[v] < table[v - 1];
  }
  return !(rises && falls);
}

double checked_factor(double factor) {
  if (!(factor >= 0.0 && factor < HUGE_VAL)) {
    fail(GL_BAD_CALL, "%g is no factor from 0", factor);
  }
  return factor;
}

int checked_bits(double bits) {
  if (!(bits >= 1.0 && bits <= 8.0) || bits != std::floor(bits)) {
    fail(GL_BAD_CALL, "%g is no number of bits from 1 to 8", bits);
  }
  return static_cast<int>(bits);
}

double checked_threshold(double threshold) {
  if (threshold != threshold) {
    fail(GL_BAD_CALL, "a threshold that is no number");
  }
  return threshold;
}

// A level as Pillow's ImageOps.autocontrast maps it.
void autocontrast_map(int low, int high, uint8_t* map) {
  const double scale = 255.0 / (high - low), offset = -low * scale;
  for (int v = 0; v < kLevels; v++) {
    map[v] = as_uint8(v * scale + offset);
  }
}

// By how many values are below a level, as Pillow's ImageOps.equalize; whether any level changes.
bool equalize_map(const uint32_t* counts, uint64_t pixels, uint8_t* map) {
  int largest = kLevels - 1;
  while (counts[largest] == 0) {
    largest--;
  }
  const uint64_t step = (pixels - counts[largest]) / 255;
  if (step == 0) {
    return false;
  }
  uint64_t below = step / 2;
  for (int v = 0; v < kLevels; v++) {
    map[v] = static_cast<uint8_t>(std::min<uint64_t>(below / step, 255));
    below += counts[v];
  }
  return true;
}

}  // namespace

LevelMaps::LevelMaps(const Image& image, Buffer& memory)
    : image_(image), part_rows_(std::max<int64_t>(kPartBytes / image.row_bytes(), 1)) {
  const size_t channels = static_cast<size_t>(image.channels), entries = channels * kLevels;
  const size_t part = static_cast<size_t>(std::min(part_rows_, image.height) * image.row_bytes());
  uint8_t* const bytes = memory.bytes(entries * (sizeof(uint32_t) + 1) + 2 * channels + part);
  counts_ = reinterpret_cast<uint32_t*>(bytes);
  tables_ = bytes + entries * sizeof(uint32_t);
  low_ = tables_ + entries;
  high_ = low_ + channels;
  part_ = high_ + channels;
  for (int v = 0; v < kLevels; v++) {
    tables_[v] = static_cast<uint8_t>(v);
  }
}

void LevelMaps::add(int32_t op, double param, const uint8_t* table) {
  switch (op) {
    case GL_LOOKUP: return append_all([=](int v) { return table[v]; });
    case GL_BRIGHTNESS: {
      const double factor = checked_factor(param);
      return append_all([=](int v) { return as_uint8(v * factor + 0.5); });
    }
    case GL_CONTRAST: {
      const double factor = checked_factor(param), rest = grey() * (1.0 - factor);
      return append_all([=](int v) { return as_uint8(v * factor + rest + 0.5); });
    }
    case GL_POSTERIZE: {
      const int mask = -(1 << (8 - checked_bits(param)));
      return append_all([=](int v) { return static_cast<uint8_t>(v & mask); });
    }
    case GL_SOLARIZE: {
      const double threshold = checked_threshold(param);
      return append_all([=](int v) { return static_cast<uint8_t>(v < threshold ? v : 255 - v); });
    }
  }
  uint8_t map[kLevels];
  uint32_t counts[kLevels];
  if (op == GL_AUTOCONTRAST) {
    find_ranges();
  }
  tell_channels_apart();
  for (int c = 0; c < image_.channels; c++) {
    if (op == GL_EQUALIZE) {
      levels_of(c, counts);
      if (equalize_map(counts, static_cast<uint64_t>(image_.height * image_.width), map)) {
        append(c, map);
      }
    } else if (low_[c] < high_[c]) {
      autocontrast_map(low_[c], high_[c], map);
      append(c, map);
    }
  }
  unchanged_ = false;
}

bool LevelMaps::change_nothing() const {
  for (int k = 0; k < count_ * kLevels; k++) {
    if (tables_[k] != static_cast<uint8_t>(k)) {
      return false;
    }
  }
  return true;
}

void LevelMaps::append(int c, const uint8_t* map) {
  uint8_t* const levels = tables_ + c * kLevels;
  for (int v = 0; v < kLevels; v++) {
    levels[v] = map[levels[v]];
  }
}

template <class Map>
void LevelMaps::append_all(Map map) {
  uint8_t levels[kLevels];
  for (int v = 0; v < kLevels; v++) {
    levels[v] = map(v);
  }
  for (int c = 0; c < count_; c++) {
    append(c, levels);
  }
  unchanged_ = false;
}

void LevelMaps::tell_channels_apart() {
  for (; count_ < image_.channels; count_++) {
    std::memcpy(tables_ + count_ * kLevels, tables_, kLevels);
  }
}

const uint8_t* LevelMaps::table(int c) const { return tables_ + (count_ == 1 ? 0 : c * kLevels); }

// How often each level is there in a channel by now.
void LevelMaps::levels_of(int c, uint32_t* counts) {
  if (!counted_) {
    count_levels(image_, counts_);
    counted_ = true;
  }
  std::fill_n(counts, kLevels, 0);
  for (int v = 0; v < kLevels; v++) {
    counts[table(c)[v]] += counts_[c * kLevels + v];
  }
}

// Calls `work` with the image as it is by now, part by part.
template <class Work>
void LevelMaps::by_parts(Work work) const {
  if (unchanged_) {
    return work(image_);
  }
  Image rows = image_;
  for (int64_t y = 0; y < image_.height; y += part_rows_) {
    rows.data = image_.row(y);
    rows.height = std::min(part_rows_, image_.height - y);
    const Image part = dense(part_, rows.height, rows.width, rows.channels, rows.dtype);
    look_up(rows, tables_, count_, part);
    work(part);
  }
}

// Each channel's least and largest value by now.
void LevelMaps::find_ranges() {
  std::fill_n(low_, image_.channels, 255);
  std::fill_n(high_, image_.channels, 0);
  if (counted_) {
    uint32_t counts[kLevels];
    for (int c = 0; c < image_.channels; c++) {
      levels_of(c, counts);
      for (int v = 0; v < kLevels; v++) {
        low_[c] = counts[v] ? std::min<uint8_t>(low_[c], v) : low_[c];
        high_[c] = counts[v] ? v : high_[c];
      }
    }
    return;
  }
  bool monotone = true;
  for (int c = 0; c < count_; c++) {
    monotone = monotone && is_monotone(tables_ + c * kLevels);
  }
  if (!monotone) {
    return by_parts([&](const Image& part) { extend_range(part, low_, high_); });
  }
  extend_range(image_, low_, high_);
  for (int c = 0; c < image_.channels; c++) {
    const uint8_t one = table(c)[low_[c]], other = table(c)[high_[c]];
    low_[c] = std::min(one, other);
    high_[c] = std::max(one, other);
  }
}

// The mean grey by now.
double LevelMaps::grey() {
  if (image_.channels != 3) {
    fail(GL_BAD_CALL, "contrast of %d channels", image_.channels);
  }
  int64_t sums[3] = {};
  if (counted_) {
    for (int k = 0; k < 3 * kLevels; k++) {
      sums[k / kLevels] += int64_t{counts_[k]} * table(k / kLevels)[k % kLevels];
    }
  } else {
    by_parts([&](const Image& part) { add_channels(part, sums); });
  }
  return (0.299 * static_cast<double>(sums[0]) + 0.587 * static_cast<double>(sums[1]) +
          0.114 * static_cast<double>(sums[2])) /
         static_cast<double>(image_.height * image_.width);
}

}  // namespace greenload
