// One image through a program's steps. A step that moves nothing and changes nothing for this image is skipped; what
// comes last writes into the batch, and steps that can work in place behind it do so there.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "failure.h"
#include "geometry.h"
#include "levels.h"
#include "mix.h"
#include "probe.h"
#include "program.h"
#include "values.h"

namespace greenload {

namespace {

constexpr int64_t kMostBytes = (int64_t{1} << 31) - 1;  // of an image between steps

// A param that must be a whole number.
int64_t whole(double value) {
  if (!(value >= 0.0 && value < 0x1p31) || value != std::floor(value)) {
    fail(GL_BAD_CALL, "%g is no size or place", value);
  }
  return static_cast<int64_t>(value);
}

Window window_of(const double* params) {
  return {whole(params[0]), whole(params[1]), whole(params[2]), whole(params[3])};
}

// Rows whose making is the first step's work, in the midst of another's.
class Clocked : public RowSource {
 public:
  Clocked(RowSource* source, Tally& tally, size_t step) : source_(source), tally_(tally), step_(step) {
    if (source) {
      pitch = source->pitch;
      offset = source->offset;
    }
  }

  void make(int64_t first, int64_t count, uint8_t* const* places) override {
    tally_.spend(step_);
    source_->make(first, count, places);
    tally_.spend(0);
  }

 private:
  RowSource* source_;
  Tally& tally_;
  size_t step_;
};

class Run {
 public:
  Run(const Program& program, const Worker& worker, const double* params, uint8_t* out, int64_t out_bytes)
      : steps_(program.steps()),
        scratch_(*worker.scratch),
        tally_(*worker.tally),
        params_(params),
        out_(out),
        out_bytes_(out_bytes) {
    scratch_.sum.begin();
  }

  void go(const void* input, const int64_t* size) {
    size_t first = 0;
    if (steps_[0].given.op == GL_DECODE) {
      decode(static_cast<const uint8_t*>(input), std::max<int64_t>(size[0], 0));
      first = 1;
    } else {
      take(input, size);
    }
    for (size_t k = first; k < steps_.size(); k++) {
      if (idle(k)) {
        continue;
      }
      const int64_t before = image_.bytes();
      const size_t last = step(k);
      tally_.note(k, before, image_.bytes());
      while (k < last) {  // what it has done as well costs nothing
        if (!idle(++k)) {
          tally_.note(k, 0, 0);
        }
      }
    }
    deliver();
  }

 private:
  const double* params(size_t k) const { return params_ + steps_[k].given.column; }

  // Whether a step does nothing to this image.
  bool idle(size_t k) const {
    const gl_step& step = steps_[k].given;
    switch (step.op) {
      case GL_FLIP:
      case GL_LOOKUP:
      case GL_AUTOCONTRAST:
      case GL_EQUALIZE: return params(k)[0] == 0.0;
      case GL_BRIGHTNESS:
      case GL_CONTRAST:
      case GL_SHARPEN: return params(k)[0] == 1.0;
      case GL_POSTERIZE: return params(k)[0] == 8.0;
      case GL_SOLARIZE: return params(k)[0] > 255.0;
      case GL_COLOR: return (step.flags & GL_MAYBE) && params(k)[12] == 0.0;
      case GL_ERASE: return params(k)[2] == 0.0;
      case GL_TURN: return params(k)[0] == 1.0;
      case GL_PERSPECTIVE: return params(k)[9] == 0.0;
      case GL_MIX: return params(k)[1] == 1.0 && params(k)[4] == 0.0;
      default: return false;
    }
  }

  // The next step that does something; the number of steps where there is none.
  size_t next(size_t k) const {
    do {
      k++;
    } while (k < steps_.size() && idle(k));
    return k;
  }

  // Whether a result of step k can be written into the batch: what follows works in place, or does nothing.
  bool is_last(size_t k) const {
    for (size_t j = k + 1; j < steps_.size(); j++) {
      if (!steps_[j].in_place() && !idle(j)) {
        return false;
      }
    }
    return true;
  }

  // Where a step's result goes: into the batch, or into the scratch buffer that doesn't hold its input.
  Image target(size_t k, int64_t height, int64_t width, int32_t dtype) {
    const int64_t pixel = static_cast<int64_t>(image_.channels) * item_bytes(dtype);
    if (height < 1 || width < 1 || width > kMostBytes / pixel || height > kMostBytes / (width * pixel)) {
      fail(GL_BAD_CALL, "an image of %lld × %lld pixels", static_cast<long long>(height),
           static_cast<long long>(width));
    }
    const int64_t row = width * pixel;
    if (is_last(k)) {
      check_size(height * row);
      return dense(out_, height, width, image_.channels, dtype);
    }
    second_ = !second_;
    Buffer& buffer = scratch_.between[second_];
    Image result = dense(buffer.bytes(height * row), height, width, image_.channels, dtype);
    result.end = buffer.end();
    return result;
  }

  // The same for a step that can work in place, and does where that costs no copy later.
  Image target_in_place(size_t k) {
    const bool delivered = image_.data == out_;
    if (delivered || (image_.writable && !is_last(k))) {
      Image result = image_;
      result.dtype = steps_[k].given.dtype_out;
      return result;
    }
    return target(k, image_.height, image_.width, steps_[k].given.dtype_out);
  }

  void check_size(int64_t bytes) const {
    if (bytes != out_bytes_) {
      fail(GL_BAD_CALL, "a result of %lld bytes for a place of %lld", static_cast<long long>(bytes),
           static_cast<long long>(out_bytes_));
    }
  }

  void take(const void* input, const int64_t* size) {
    const int bytes = item_bytes(steps_[0].given.dtype_in);
    const int64_t most = kMostBytes / bytes;
    if (size[0] < 1 || size[1] < 1 || size[2] < 1 || size[0] > most || size[1] > most / size[0] ||
        size[2] > most / size[0] / size[1]) {
      fail(GL_BAD_CALL, "an image of %lld × %lld × %lld values", static_cast<long long>(size[0]),
           static_cast<long long>(size[1]), static_cast<long long>(size[2]));
    }
    image_ = dense(static_cast<uint8_t*>(const_cast<void*>(input)), size[0], size[1], static_cast<int>(size[2]),
                   steps_[0].given.dtype_in);
    image_.writable = false;
  }

  void decode(const uint8_t* file, int64_t length) {
    Window window;
    const bool part = steps_[0].flag(GL_WINDOW);
    if (part) {
      window = window_of(params(0));
    }
    auto choose = [&](int64_t height, int64_t width) {
      return needed(part ? window : Window{0, 0, height, width}, height, width);
    };
    if (resized_next()) {
      image_ = scratch_.decoder.open(file, length, choose);
    } else {
      image_ = scratch_.decoder.decode(file, length, choose, is_last(0) ? out_ : nullptr, out_bytes_);
    }
    tally_.note(0, length, image_.bytes());
  }

  // Whether what is decoded is resized next: then rows are decoded when the resize needs them.
  bool resized_next() const {
    const size_t after = next(0);
    return after < steps_.size() && steps_[after].given.op == GL_RESIZE;
  }

  // Of what is to be decoded as much as what follows needs: a resize may be followed by a crop.
  Window needed(const Window& window, int64_t height, int64_t width) {
    check_window(window, height, width);
    if (!resized_next()) {
      return window;
    }
    source_ = {0, 0, window.height, window.width};
    size_t last;
    const Window read = resampling(next(0), &last).reads();
    source_.top = read.top;
    source_.left = read.left;
    return {window.top + read.top, window.left + read.left, read.height, read.width};
  }

  // Does a step; which is the last that it did.
  size_t step(size_t k) {
    const Step& step = steps_[k];
    if (is_level_map(step.given.op)) {
      return map_levels(k);
    }
    switch (step.given.op) {
      case GL_RESIZE: return resize(k);
      case GL_TURN: turn(k); break;
      case GL_CROP: crop(window_of(params(k))); break;
      case GL_PAD: pad(k); break;
      case GL_FLIP: flip(k); break;
      case GL_ERASE: erase(k); break;
      case GL_WARP: replace(k, [&](uint8_t* to) { warp(image_, params(k), in_dtype(step.numbers[0]), to); }); break;
      case GL_PERSPECTIVE:
        replace(k, [&](uint8_t* to) { perspective(image_, params(k), in_dtype(step.numbers[0]), to); });
        break;
      case GL_BLUR:
        replace(k, [&](uint8_t* to) {
          scratch_.blur.apply(image_, params(k)[0], step.given.height, step.given.width, to);
        });
        break;
      case GL_COLOR: change(k, [&](const Image& to) { recolor(image_, params(k), to); }); break;
      case GL_SHARPEN: sharpen(k); break;
      case GL_AFFINE: affine(k); break;
      case GL_MIX: mix(k); break;
      case GL_FORK: scratch_.sum.fork(image_, scratch_.between[second_]); break;
      case GL_ADD: scratch_.sum.add(image_, params(k)[0], scratch_.between[second_]); break;
      case GL_SUM: sum(k); break;
    }
    return k;
  }

  // Steps of which each pixel depends on several.
  template <class Work>
  void replace(size_t k, Work work) {
    Image result = target(k, image_.height, image_.width, image_.dtype);
    work(result.data);
    image_ = result;
  }

  // Steps that can work in place.
  template <class Work>
  void change(size_t k, Work work) {
    Image result = target_in_place(k);
    work(result);
    image_ = result;
  }

  // Level maps that follow one another, as one look-up, whose time they share alike; which is the last of them.
  size_t map_levels(size_t k) {
    LevelMaps maps(image_, scratch_.tables);
    std::vector<size_t>& done = scratch_.as_one;
    done.clear();
    for (size_t j = k; j < steps_.size() && is_level_map(steps_[j].given.op); j = next(j)) {
      maps.add(steps_[j].given.op, params(j)[0], steps_[j].table.data());
      tally_.spend(j);
      done.push_back(j);
    }
    if (!maps.change_nothing()) {
      change(done.back(), [&](const Image& to) { look_up(image_, maps.tables(), maps.count(), to); });
    }
    tally_.spend(done);
    return done.back();
  }

  void sharpen(size_t k) {
    const double factor = params(k)[0];
    if (!(factor >= 0.0 && factor < HUGE_VAL)) {
      fail(GL_BAD_CALL, "%g is no factor from 0", factor);
    }
    if (image_.height >= 3 && image_.width >= 3) {
      replace(k, [&](uint8_t* to) { greenload::sharpen(image_, factor, scratch_.tables, to); });
    }
  }

  void turn(size_t k) {
    const int64_t orientation = whole(params(k)[0]);
    if (orientation < 1 || orientation > 8) {
      fail(GL_BAD_CALL, "no orientation %lld", static_cast<long long>(orientation));
    }
    const bool transposes = turn_transposes(static_cast<int>(orientation));
    Image result =
        target(k, transposes ? image_.width : image_.height, transposes ? image_.height : image_.width, image_.dtype);
    greenload::turn(image_, static_cast<int>(orientation), result.data);
    image_ = result;
  }

  // A view.
  void crop(const Window& window) {
    check_window(window, image_.height, image_.width);
    image_.data += window.top * image_.stride + window.left * image_.pixel_bytes();
    image_.height = window.height;
    image_.width = window.width;
  }

  Window size_after(size_t k, const double* size) const {
    const gl_step& step = steps_[k].given;
    if (step.height) {
      return {0, 0, step.height, step.width};
    }
    return {0, 0, whole(size[0]), whole(size[1])};
  }

  void pad(size_t k) {
    const int64_t top = whole(params(k)[0]), left = whole(params(k)[1]);
    const Window size = size_after(k, params(k) + 2);
    if (top + image_.height > size.height || left + image_.width > size.width) {
      fail(GL_BAD_CALL, "an image that is padded to less than its size");
    }
    Image result = target(k, size.height, size.width, image_.dtype);
    greenload::pad(image_, top, left, pixel(steps_[k].numbers), result);
    image_ = result;
  }

  // A resize with the flips and crops around it, which cost nothing: columns are resampled from right to left, and only
  // the window's pixels are. `last` becomes the last step that it does.
  Resampling resampling(size_t k, size_t* last) const {
    const Window size = size_after(k, params(k));
    if (size.height < 1 || size.width < 1 || size.height > kMostBytes / size.width) {
      fail(GL_BAD_CALL, "a resize to %lld × %lld pixels", static_cast<long long>(size.height),
           static_cast<long long>(size.width));
    }
    Window part = size;
    bool mirrored = mirrored_;
    *last = k;
    for (size_t j = next(k); j < steps_.size(); j = next(j)) {
      if (is_mirror(j)) {
        mirrored = !mirrored;
      } else if (steps_[j].given.op == GL_CROP) {
        const Window window = window_of(params(j));
        check_window(window, part.height, part.width);
        part.left += mirrored ? part.width - window.left - window.width : window.left;
        part.top += window.top;
        part.height = window.height;
        part.width = window.width;
      } else {
        break;
      }
      *last = j;
    }
    const bool antialias = steps_[k].flag(GL_ANTIALIAS);
    return {{source_.height, size.height, part.top, part.height, source_.top, antialias},
            {source_.width, size.width, part.left, part.width, source_.left, antialias},
            mirrored};
  }

  size_t resize(size_t k) {
    if (!source_.height) {
      source_ = {0, 0, image_.height, image_.width};
    }
    size_t last;
    const Resampling wanted = resampling(k, &last);
    Image result = target(last, wanted.down.count, wanted.across.count, image_.dtype);
    Clocked clocked(image_.source, tally_, k);
    if (image_.source) {
      image_.source = &clocked;
    }
    scratch_.resizer.resize(image_, wanted, result.data);
    image_ = result;
    mirrored_ = false;
    source_ = Window();
    return last;
  }

  bool is_mirror(size_t k) const { return steps_[k].given.op == GL_FLIP && !steps_[k].flag(GL_VERTICAL); }

  void flip(size_t k) {
    const size_t after = next(k);
    if (is_mirror(k) && after < steps_.size() && steps_[after].given.op == GL_RESIZE) {
      mirrored_ = true;
      return;
    }
    change(k, [&](const Image& to) { greenload::flip(image_, steps_[k].flag(GL_VERTICAL), to); });
  }

  void erase(size_t k) {
    const Window window = window_of(params(k));
    check_window(window, image_.height, image_.width);
    change(k, [&](const Image& to) {
      if (to.data != image_.data) {
        copy(image_, to.data);
      }
      greenload::erase(to, window.top, window.left, window.height, window.width, pixel(steps_[k].numbers));
    });
  }

  void affine(size_t k) {
    Image result =
        steps_[k].in_place() ? target_in_place(k) : target(k, image_.height, image_.width, steps_[k].given.dtype_out);
    steps_[k].affine->apply(image_, result);
    image_ = result;
  }

  // The image is the batch's own: those around it lie as many bytes apart as it has.
  void mix(size_t k) {
    const double offset = params(k)[0];
    if (!(std::fabs(offset) < 0x1p31) || offset != std::floor(offset)) {
      fail(GL_BAD_CALL, "%g is no image of a batch", offset);
    }
    const Window box = window_of(params(k) + 2);
    if (box.height) {
      check_window(box, image_.height, image_.width);
    }
    const uint8_t* other = image_.data + static_cast<int64_t>(offset) * image_.bytes();
    replace(k, [&](uint8_t* to) { greenload::mix(image_, other, params(k)[1], box, to); });
  }

  void sum(size_t k) {
    if (scratch_.sum.end(image_, params(k)[0])) {
      replace(k, [&](uint8_t* to) { scratch_.sum.write(to); });
    }
  }

  // A constant as the image's dtype has it.
  double in_dtype(double number) const {
    uint8_t value[4];
    write_value(value, 0, image_.dtype, number);
    return read_value(value, 0, image_.dtype);
  }

  const uint8_t* pixel(const std::vector<double>& numbers) {
    if (numbers.size() != 1 && numbers.size() != static_cast<size_t>(image_.channels)) {
      fail(GL_BAD_CALL, "%zu numbers for %d channels", numbers.size(), image_.channels);
    }
    uint8_t* values = scratch_.pixel.bytes(image_.pixel_bytes());
    for (int c = 0; c < image_.channels; c++) {
      write_value(values, c, image_.dtype, numbers[numbers.size() == 1 ? 0 : c]);
    }
    return values;
  }

  void deliver() {
    if (image_.data == out_) {
      return check_size(image_.bytes());
    }
    check_size(image_.bytes());
    copy(image_, out_);
  }

  const std::vector<Step>& steps_;
  Scratch& scratch_;
  Tally& tally_;
  const double* params_;
  uint8_t* out_;
  int64_t out_bytes_;
  Image image_;
  bool second_ = false;    // which scratch buffer the last result is in
  bool mirrored_ = false;  // the next resize has to
  Window source_ = {};     // for the next resize: how large its image is as a whole, and where what was decoded begins
};

}  // namespace

void run_image(const Program& program, const Worker& worker, const void* input, const int64_t* size,
               const double* params, uint8_t* out, int64_t out_bytes) {
  struct Closed {  // however this ends
    Decoder& decoder;
    ~Closed() { decoder.close(); }
  } closed{worker.scratch->decoder};
  Run(program, worker, params, out, out_bytes).go(input, size);
}

}  // namespace greenload
