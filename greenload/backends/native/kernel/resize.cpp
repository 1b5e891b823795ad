#include "resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace greenload {

namespace {

// A weight's row, or, where the weight is 0, any row that is there.
int64_t row_of(int64_t start, int tap, int16_t weight) { return weight ? start + tap : start; }

int64_t with_slack(int64_t bytes) { return (bytes + static_cast<int64_t>(kSlack) + 63) / 64 * 64; }

// Which rows each output reads.
template <class AnAxis>
HeldRows::Need& needed(const AnAxis& axis, HeldRows::Need& need) {
  const int64_t outputs = static_cast<int64_t>(axis.start.size());
  need.first.assign(axis.start.begin(), axis.start.end());
  need.stop.resize(axis.start.size());
  int64_t furthest = 0;
  for (int64_t o = 0; o < outputs; o++) {
    int taps = axis.taps;
    while (taps > 1 && axis.weights[o * axis.taps + taps - 1] == 0) {
      taps--;
    }
    need.stop[o] = furthest = std::max(furthest, axis.start[o] + int64_t{taps});
  }
  return need;
}

}  // namespace

void Resizer::resize(const Image& in, const Resampling& wanted, uint8_t* out) {
  down_.set(wanted.down);
  across_.set(wanted.across);
  if (in.dtype == GL_FLOAT32) {
    return exact<float>(in, wanted.mirrored, out);
  }
  // Decided by the whole resize, so that a window's pixels are the whole's.
  if (std::max(wanted.down.most_taps(), wanted.across.most_taps()) > kMostTaps) {
    return exact<uint8_t>(in, wanted.mirrored, out);
  }
  const bool same = made_channels_ == in.channels && made_.mirrored == wanted.mirrored && made_.down == wanted.down &&
                    made_.across == wanted.across;
  if (!same) {
    made_channels_ = 0;
    q14_down_.set(down_, 2);
    q14_across_.set(across_, wanted.across.wide() ? 4 : 2);
    columns_.set(q14_across_, in.channels, wanted.mirrored, in.channels == 3);
    made_ = wanted;
    made_channels_ = in.channels;
  }
  rows_.begin(in, in.source ? needed(q14_down_, need_) : need_);
  down_.span.in > down_.span.out ? down_first(in, out) : across_first(in, out);
  rows_.finish();
}

// The weights of a row of the result and the rows that they weigh; how many pairs, without those that are 0 at the end.
int Resizer::weights_of(int64_t o, const int16_t** weights, int64_t* rows) const {
  const int16_t* own = *weights = &q14_down_.weights[o * q14_down_.taps];
  int taps = q14_down_.taps;
  while (taps > 2 && !own[taps - 1] && !own[taps - 2]) {
    taps -= 2;
  }
  for (int t = 0; t < taps; t++) {
    rows[t] = row_of(q14_down_.start[o], t, own[t]);
  }
  return taps / 2;
}

// Fewer rows out than in: each row of the result is first weighed up from rows of the image.
void Resizer::down_first(const Image& in, uint8_t* out) {
  const RowLoops& loops = row_loops(in.channels);
  int16_t* blended = line_.of<int16_t>(in.row_values());
  const int64_t values = across_.span.count * in.channels;
  uint8_t* last = sums_.bytes(values);
  const uint8_t* rows[kMostTaps];
  int64_t numbers[kMostTaps];
  for (int64_t o = 0; o < down_.span.count; o++) {
    const int16_t* weights;
    int pairs = weights_of(o, &weights, numbers);
    rows_.reach(o);
    for (int t = 0; t < 2 * pairs; t++) {
      rows[t] = rows_.row(numbers[t]);
    }
    loops.down_bytes(rows, weights, pairs, blended, in.row_values());
    // A few bytes more may be written, over the next row; of the last there is none.
    bool spare = o + 1 < down_.span.count && across_.span.count % 4 == 0;
    loops.across_q7(blended, spare ? out + o * values : last, columns_);
    if (!spare) {
      memcpy(out + o * values, last, values);
    }
  }
}

// As many rows out as in, or more: each row of the image is resampled once, and kept for as long as rows need it.
void Resizer::across_first(const Image& in, uint8_t* out) {
  const RowLoops& loops = row_loops(in.channels);
  const int64_t values = across_.span.count * in.channels, pitch = with_slack(values * 2) / 2;
  const int64_t slots = q14_down_.taps + 2;
  int16_t* ring = ring_.of<int16_t>(pitch * slots);
  held_.assign(slots, -1);
  const int16_t* rows[kMostTaps];
  int64_t numbers[kMostTaps];
  for (int64_t o = 0; o < down_.span.count; o++) {
    const int16_t* weights;
    int pairs = weights_of(o, &weights, numbers);
    rows_.reach(o);
    for (int t = 0; t < 2 * pairs; t++) {
      int64_t slot = numbers[t] % slots;
      int16_t* row = ring + slot * pitch;
      if (held_[slot] != numbers[t]) {
        loops.across_bytes(rows_.row(numbers[t]), row, columns_);
        held_[slot] = numbers[t];
      }
      rows[t] = row;
    }
    loops.down_q7(rows, weights, pairs, out + o * values, values);
  }
}

// In float64 throughout: floats, and images that shrink so much that Q14 weights would be coarse.
template <class T>
void Resizer::exact(const Image& in, bool mirrored, uint8_t* out) {
  const int64_t values = in.row_values(), channels = in.channels;
  double* sums = sums_.of<double>(values);
  rows_.begin(in, in.source ? needed(down_, need_) : need_);
  for (int64_t o = 0; o < down_.span.count; o++) {
    const double* weights = &down_.weights[o * down_.taps];
    std::fill(sums, sums + values, 0.0);
    rows_.reach(o);
    for (int t = 0; t < down_.taps; t++) {
      if (weights[t] == 0.0) {
        continue;
      }
      const T* row = reinterpret_cast<const T*>(rows_.row(down_.start[o] + t));
      const double weight = weights[t];
      for (int64_t i = 0; i < values; i++) {
        sums[i] += weight * row[i];
      }
    }
    T* result = reinterpret_cast<T*>(out) + o * across_.span.count * channels;
    for (int64_t x = 0; x < across_.span.count; x++) {
      const int64_t from = mirrored ? across_.span.count - 1 - x : x;
      const double* own = &across_.weights[from * across_.taps];
      const double* pixel = sums + across_.start[from] * channels;
      for (int64_t c = 0; c < channels; c++) {
        double sum = 0.0;
        for (int t = 0; t < across_.taps; t++) {
          if (own[t] != 0.0) {
            sum += own[t] * pixel[t * channels + c];
          }
        }
        result[x * channels + c] = static_cast<T>(sizeof(T) == 1 ? std::clamp(std::floor(sum + 0.5), 0.0, 255.0) : sum);
      }
    }
  }
  rows_.finish();
}

void Resizer::trim(size_t limit) {
  release_above(limit, {&ring_, &line_, &sums_});
  rows_.trim(limit);
}

}  // namespace greenload
