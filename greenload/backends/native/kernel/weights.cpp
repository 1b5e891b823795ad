#include "weights.h"

#include <algorithm>
#include <cmath>

namespace greenload {

namespace {

// A call of the library's costs as much as the rest of a weight.
int64_t floor_of(double value) {
  const int64_t whole = static_cast<int64_t>(value);
  return whole - (value < static_cast<double>(whole));
}

// A span with its scale, which is divided once.
struct Scaled {
  explicit Scaled(const Span& given)
      : span(given), scale(static_cast<double>(span.in) / static_cast<double>(span.out)), wide(span.wide()) {}

  // The centre of an output, in inputs.
  double centre(int64_t o) const { return (static_cast<double>(o) + 0.5) * scale; }
  int64_t clamped(int64_t place) const { return std::clamp<int64_t>(place, 0, span.in - 1); }
  // The first and the last input that an output may read.
  int64_t first(int64_t o) const { return clamped(floor_of(centre(o) - (wide ? scale : 0.0) - 0.5)); }
  int64_t last(int64_t o) const { return clamped(floor_of(centre(o) + (wide ? scale : 0.0) - 0.5) + 1); }
  double weight(int64_t o, int64_t i) const {
    return 1.0 - std::fabs(static_cast<double>(i) + 0.5 - centre(o)) / scale;
  }

  const Span span;  // a copy, which nothing that is written can be part of
  const double scale;
  const bool wide;
};

void bilinear(const Scaled& from, Axis& axis) {
  axis.taps = 2;
  axis.weights.assign(from.span.count * 2, 0.0);
  for (int64_t i = 0; i < from.span.count; i++) {
    const int64_t o = from.span.first + i, first = from.first(o);
    const double place = from.centre(o) - 0.5, fraction = place - static_cast<double>(floor_of(place));
    const bool repeated = first == from.last(o);  // beyond the border the outermost pixel is
    axis.start[i] = first - from.span.origin;
    axis.weights[i * 2] = repeated ? 1.0 : 1.0 - fraction;
    axis.weights[i * 2 + 1] = repeated ? 0.0 : fraction;
  }
}

void triangles(const Scaled& from, Axis& axis) {
  const Span& span = from.span;
  axis.stop.resize(span.count);
  axis.taps = 1;
  for (int64_t i = 0; i < span.count; i++) {
    const int64_t o = span.first + i;
    int64_t first = from.first(o), last = from.last(o);
    while (first < last && from.weight(o, first) <= 0) {
      first++;
    }
    while (first < last && from.weight(o, last) <= 0) {
      last--;
    }
    axis.start[i] = first - span.origin;
    axis.stop[i] = last + 1 - span.origin;
    axis.taps = std::max(axis.taps, static_cast<int>(last - first + 1));
  }
  axis.weights.assign(span.count * axis.taps, 0.0);
  for (int64_t i = 0; i < span.count; i++) {
    double* row = &axis.weights[i * axis.taps];
    const int64_t own = axis.stop[i] - axis.start[i], begin = axis.start[i] + span.origin;
    double sum = 0.0;
    for (int64_t t = 0; t < own; t++) {
      sum += row[t] = std::max(0.0, from.weight(span.first + i, begin + t));
    }
    for (int64_t t = 0; t < own; t++) {
      row[t] /= sum;
    }
  }
}

}  // namespace

int64_t Span::begin() const { return Scaled(*this).first(first); }

int64_t Span::end() const { return Scaled(*this).last(first + count - 1) + 1; }

void Axis::set(const Span& wanted) {
  if (span == wanted) {
    return;
  }
  span = wanted;
  start.resize(span.count);
  const Scaled from(span);
  from.wide ? triangles(from, *this) : bilinear(from, *this);
}

namespace {

// As lrint, which would be a call of the library's: beyond 2⁵² a double has no fraction.
int nearest(double value) {
  constexpr double kNoFraction = 0x1.8p52;
  return static_cast<int>(value + kNoFraction - kNoFraction);
}

}  // namespace

void quantise(const double* weights, int count, int16_t* q14) {
  int total = 0, largest = 0;
  for (int i = 0; i < count; i++) {
    q14[i] = static_cast<int16_t>(nearest(weights[i] * kQ14));
    total += q14[i];
    if (weights[i] > weights[largest]) {
      largest = i;
    }
  }
  q14[largest] = static_cast<int16_t>(q14[largest] + kQ14 - total);
}

void Q14Axis::set(const Axis& axis, int multiple) {
  count = axis.span.count;
  taps = (axis.taps + multiple - 1) / multiple * multiple;
  start.resize(count);
  weights.assign(count * taps, 0);
  for (int64_t o = 0; o < count; o++) {
    int16_t* row = &weights[o * taps];
    quantise(&axis.weights[o * axis.taps], axis.taps, row);
    start[o] = static_cast<int32_t>(axis.start[o]);
    if (axis.taps == 2 && row[0] == 0) {  // all of the second: said as all of the first
      start[o]++;
      row[0] = kQ14;
      row[1] = 0;
    }
  }
}

void gaussian(double sigma, int taps, std::vector<double>& weights) {
  weights.resize(taps);
  double sum = 0.0;
  for (int i = 0; i < taps; i++) {
    double t = (i - taps / 2) / sigma;
    sum += weights[i] = std::exp(-0.5 * (t * t));
  }
  for (double& weight : weights) {
    weight /= sum;
  }
}

}  // namespace greenload
