#include "weights.h"

#include <algorithm>
#include <cmath>

namespace greenload {

namespace {

double scale_of(const Span& span) { return static_cast<double>(span.in) / static_cast<double>(span.out); }

int64_t clamped(double place, const Span& span) {
  return std::clamp<int64_t>(static_cast<int64_t>(std::floor(place)), 0, span.in - 1);
}

// The first and the last input that an output may read.
int64_t first_of(const Span& span, int64_t o) {
  const double centre = (o + 0.5) * scale_of(span);
  return clamped(span.wide() ? centre - scale_of(span) - 0.5 : centre - 0.5, span);
}

int64_t last_of(const Span& span, int64_t o) {
  const double centre = (o + 0.5) * scale_of(span);
  return clamped(span.wide() ? std::ceil(centre + scale_of(span) - 0.5) : std::floor(centre - 0.5) + 1.0, span);
}

void bilinear(Axis& axis) {
  const Span& span = axis.span;
  axis.taps = 2;
  axis.weights.assign(span.count * 2, 0.0);
  for (int64_t i = 0; i < span.count; i++) {
    const int64_t o = span.first + i, first = first_of(span, o);
    const double place = (o + 0.5) * scale_of(span) - 0.5, fraction = place - std::floor(place);
    const bool repeated = first == last_of(span, o);  // beyond the border the outermost pixel is
    axis.start[i] = first - span.origin;
    axis.weights[i * 2] = repeated ? 1.0 : 1.0 - fraction;
    axis.weights[i * 2 + 1] = repeated ? 0.0 : fraction;
  }
}

void triangles(Axis& axis) {
  const Span& span = axis.span;
  const double scale = scale_of(span);
  std::vector<int64_t> begins(span.count), ends(span.count);
  auto weight = [&](int64_t o, int64_t i) { return 1.0 - std::fabs(i + 0.5 - (o + 0.5) * scale) / scale; };
  axis.taps = 1;
  for (int64_t i = 0; i < span.count; i++) {
    const int64_t o = span.first + i;
    int64_t first = first_of(span, o), last = last_of(span, o);
    while (first < last && weight(o, first) <= 0) {
      first++;
    }
    while (first < last && weight(o, last) <= 0) {
      last--;
    }
    begins[i] = first;
    ends[i] = last + 1;
    axis.start[i] = first - span.origin;
    axis.taps = std::max(axis.taps, static_cast<int>(last - first + 1));
  }
  axis.weights.assign(span.count * axis.taps, 0.0);
  for (int64_t i = 0; i < span.count; i++) {
    double* row = &axis.weights[i * axis.taps];
    const int64_t own = ends[i] - begins[i];
    double sum = 0.0;
    for (int64_t t = 0; t < own; t++) {
      sum += row[t] = std::max(0.0, weight(span.first + i, begins[i] + t));
    }
    for (int64_t t = 0; t < own; t++) {
      row[t] /= sum;
    }
  }
}

}  // namespace

int64_t Span::begin() const { return first_of(*this, first); }

int64_t Span::end() const { return last_of(*this, first + count - 1) + 1; }

void Axis::set(const Span& wanted) {
  if (span == wanted) {
    return;
  }
  span = wanted;
  start.resize(span.count);
  span.wide() ? triangles(*this) : bilinear(*this);
}

void quantise(const double* weights, int count, int16_t* q14) {
  int total = 0, largest = 0;
  for (int i = 0; i < count; i++) {
    q14[i] = static_cast<int16_t>(std::lrint(weights[i] * kQ14));
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
