#include "weights.h"

#include <algorithm>
#include <cmath>

namespace greenload {

namespace {

void bilinear(Axis& axis, double scale) {
  axis.taps = 2;
  axis.weights.assign(axis.out * 2, 0.0);
  for (int64_t o = 0; o < axis.out; o++) {
    double place = (o + 0.5) * scale - 0.5, left = std::floor(place), fraction = place - left;
    int64_t first = std::clamp<int64_t>(static_cast<int64_t>(left), 0, axis.in - 1);
    int64_t second = std::clamp<int64_t>(static_cast<int64_t>(left) + 1, 0, axis.in - 1);
    axis.start[o] = first;
    // Beyond the border the outermost pixel is repeated.
    axis.weights[o * 2] = first == second ? 1.0 : 1.0 - fraction;
    axis.weights[o * 2 + 1] = first == second ? 0.0 : fraction;
  }
}

void triangles(Axis& axis, double scale) {
  const double support = std::max(scale, 1.0);
  std::vector<int64_t> stop(axis.out);
  auto weight = [&](int64_t o, int64_t i) { return 1.0 - std::fabs(i + 0.5 - (o + 0.5) * scale) / support; };
  axis.taps = 1;
  for (int64_t o = 0; o < axis.out; o++) {
    double centre = (o + 0.5) * scale;
    int64_t first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(centre - support - 0.5)));
    int64_t last = std::min<int64_t>(axis.in - 1, static_cast<int64_t>(std::ceil(centre + support - 0.5)));
    while (first < last && weight(o, first) <= 0) {
      first++;
    }
    while (first < last && weight(o, last) <= 0) {
      last--;
    }
    axis.start[o] = first;
    stop[o] = last + 1;
    axis.taps = std::max(axis.taps, static_cast<int>(last - first + 1));
  }
  axis.weights.assign(axis.out * axis.taps, 0.0);
  for (int64_t o = 0; o < axis.out; o++) {
    double* row = &axis.weights[o * axis.taps];
    int count = static_cast<int>(stop[o] - axis.start[o]);
    double sum = 0.0;
    for (int i = 0; i < count; i++) {
      sum += row[i] = std::max(0.0, weight(o, axis.start[o] + i));
    }
    for (int i = 0; i < count; i++) {
      row[i] /= sum;
    }
  }
}

}  // namespace

void Axis::set(int64_t in_, int64_t out_, bool antialias_) {
  antialias_ = antialias_ && in_ > out_;  // where an image doesn't shrink both filters are the same
  if (in == in_ && out == out_ && antialias == antialias_) {
    return;
  }
  in = in_;
  out = out_;
  antialias = antialias_;
  start.resize(out);
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  antialias ? triangles(*this, scale) : bilinear(*this, scale);
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
  out = axis.out;
  taps = (axis.taps + multiple - 1) / multiple * multiple;
  start.resize(out);
  weights.assign(out * taps, 0);
  for (int64_t o = 0; o < out; o++) {
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
