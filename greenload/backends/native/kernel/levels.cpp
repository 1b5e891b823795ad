#include "levels.h"

#include <algorithm>
#include <cstring>

namespace greenload {

namespace {

constexpr int kLevels = 256;
constexpr int kRepeat = 48;  // values after which 1, 2, 3 or 4 channels fill vectors of 16

void leave(uint8_t* table) {
  for (int v = 0; v < kLevels; v++) {
    table[v] = static_cast<uint8_t>(v);
  }
}

// The least and the largest value of each channel.
void find_range(const Image& image, uint8_t* low, uint8_t* high) {
  const int channels = image.channels;
  std::memset(low, 255, channels);
  std::memset(high, 0, channels);
  // Local, and without std::min's references, so that the compiler makes vectors of it.
  uint8_t lows[kRepeat], highs[kRepeat];
  std::memset(lows, 255, kRepeat);
  std::memset(highs, 0, kRepeat);
  for (int64_t y = 0; y < image.height; y++) {
    const uint8_t* values = image.row(y);
    int64_t i = 0;
    for (; kRepeat % channels == 0 && i + kRepeat <= image.row_values(); i += kRepeat) {
      for (int k = 0; k < kRepeat; k++) {
        lows[k] = lows[k] < values[i + k] ? lows[k] : values[i + k];
        highs[k] = highs[k] > values[i + k] ? highs[k] : values[i + k];
      }
    }
    for (int c = 0; i < image.row_values(); i++, c = c + 1 < channels ? c + 1 : 0) {
      low[c] = std::min(low[c], values[i]);
      high[c] = std::max(high[c], values[i]);
    }
  }
  for (int k = 0; kRepeat % channels == 0 && k < kRepeat; k++) {
    low[k % channels] = std::min(low[k % channels], lows[k]);
    high[k % channels] = std::max(high[k % channels], highs[k]);
  }
}

// How often each level is there in each channel.
void count_levels(const Image& image, uint32_t* counts) {
  std::fill_n(counts, static_cast<size_t>(image.channels) * kLevels, 0);
  for (int64_t y = 0; y < image.height; y++) {
    const uint8_t* values = image.row(y);
    for (int64_t x = 0; x < image.width; x++, values += image.channels) {
      for (int c = 0; c < image.channels; c++) {
        counts[c * kLevels + values[c]]++;
      }
    }
  }
}

}  // namespace

const uint8_t* autocontrast_tables(const Image& image, Buffer& memory) {
  const size_t channels = static_cast<size_t>(image.channels);
  uint8_t* const tables = memory.bytes(channels * (kLevels + 2));
  uint8_t *const low = tables + channels * kLevels, *const high = low + channels;
  find_range(image, low, high);
  for (size_t c = 0; c < channels; c++) {
    uint8_t* const table = tables + c * kLevels;
    if (high[c] <= low[c]) {
      leave(table);
      continue;
    }
    const double scale = 255.0 / (high[c] - low[c]), offset = -low[c] * scale;
    for (int v = 0; v < kLevels; v++) {
      table[v] = static_cast<uint8_t>(std::min(std::max(v * scale + offset, 0.0), 255.0));
    }
  }
  return tables;
}

const uint8_t* equalize_tables(const Image& image, Buffer& memory) {
  const size_t entries = static_cast<size_t>(image.channels) * kLevels;
  uint8_t* const tables = memory.bytes(entries * (1 + sizeof(uint32_t)));
  uint32_t* const counts = reinterpret_cast<uint32_t*>(tables + entries);  // entries are a multiple of 256
  count_levels(image, counts);
  for (size_t first = 0; first < entries; first += kLevels) {
    const uint32_t* const count = counts + first;
    int largest = kLevels - 1;
    while (count[largest] == 0) {
      largest--;
    }
    const uint64_t step = (static_cast<uint64_t>(image.height * image.width) - count[largest]) / 255;
    if (step == 0) {
      leave(tables + first);
      continue;
    }
    uint64_t below = step / 2;
    for (int v = 0; v < kLevels; v++) {
      tables[first + v] = static_cast<uint8_t>(std::min<uint64_t>(below / step, 255));
      below += count[v];
    }
  }
  return tables;
}

}  // namespace greenload
