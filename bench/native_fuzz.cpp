// Runs the kernel over what bench/native_fuzz.py makes: files on the standard input, each behind its length (8 bytes);
// and random programs on random pixels. Built with AddressSanitizer and UBSan, which end it at the first error. Every
// piece of memory has just the size that the ABI asks for.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "abi.h"

namespace {

using Random = std::mt19937_64;

int64_t between(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

struct Shape {
  int64_t height, width, channels;
  int32_t dtype;
  int64_t bytes() const {
    const int item = dtype == GL_FLOAT32 ? 4 : dtype == GL_FLOAT16 || dtype == GL_BFLOAT16 ? 2 : 1;
    return height * width * channels * item;
  }
};

// Steps, their params, and what they read.
struct Program {
  std::vector<gl_step> steps;
  std::vector<double> params;
  std::vector<std::unique_ptr<double[]>> numbers;
  uint8_t table[256] = {};
};

gl_step& add(Program& program, int32_t op, const Shape& shape, std::initializer_list<double> params) {
  gl_step step = {};
  step.op = op;
  step.dtype_in = step.dtype_out = shape.dtype;
  step.column = static_cast<int32_t>(program.params.size());
  program.params.insert(program.params.end(), params);
  program.steps.push_back(step);
  return program.steps.back();
}

void give(Program& program, std::vector<double> numbers) {
  program.numbers.emplace_back(new double[numbers.size()]);
  std::copy(numbers.begin(), numbers.end(), program.numbers.back().get());
  program.steps.back().count = static_cast<int32_t>(numbers.size());
  program.steps.back().numbers = program.numbers.back().get();
}

void resize(Program& program, Shape& shape, Random& random, int64_t most) {
  shape.height = between(random, 1, most);
  shape.width = between(random, 1, most);
  gl_step& step = add(program, GL_RESIZE, shape, {static_cast<double>(shape.height), static_cast<double>(shape.width)});
  if (random() % 2) {
    step.flags = GL_ANTIALIAS;
  }
  if (random() % 2) {
    step.height = static_cast<int32_t>(shape.height);
    step.width = static_cast<int32_t>(shape.width);
  }
}

// One more step, of those that the image's dtype and channels allow; `shape` becomes that of its result.
void extend(Program& program, Shape& shape, Random& random) {
  const bool filtered = shape.dtype == GL_UINT8 || shape.dtype == GL_FLOAT32;
  const double coin = static_cast<double>(random() % 2);
  auto real = [&] { return std::normal_distribution<double>(0, 1)(random); };
  switch (random() % 14) {
    case 0: {
      const int64_t turn = between(random, 1, 8);
      add(program, GL_TURN, shape, {static_cast<double>(turn)});
      if (turn >= 5) {
        std::swap(shape.height, shape.width);
      }
      return;
    }
    case 1: {
      const int64_t height = between(random, 1, shape.height), width = between(random, 1, shape.width);
      add(program, GL_CROP, shape,
          {static_cast<double>(between(random, 0, shape.height - height)),
           static_cast<double>(between(random, 0, shape.width - width)), static_cast<double>(height),
           static_cast<double>(width)});
      shape.height = height;
      shape.width = width;
      return;
    }
    case 2: {
      const int64_t top = between(random, 0, 5), left = between(random, 0, 5);
      Shape padded = shape;
      padded.height += top + between(random, 0, 5);
      padded.width += left + between(random, 0, 5);
      add(program, GL_PAD, shape,
          {static_cast<double>(top), static_cast<double>(left), static_cast<double>(padded.height),
           static_cast<double>(padded.width)});
      give(program, {real()});
      shape = padded;
      return;
    }
    case 3:
      if (filtered) {
        resize(program, shape, random, 90);
      }
      return;
    case 4: add(program, GL_FLIP, shape, {coin}).flags = random() % 3 ? 0 : GL_VERTICAL; return;
    case 5:
      if (!filtered) {
        return;
      }
      add(program, random() % 3 ? GL_WARP : GL_PERSPECTIVE, shape,  // a warp reads the first six
          {1 + real() / 3, real() / 3, real() * 20, real() / 3, 1 + real() / 3, real() * 20, real() / 90, real() / 90,
           1.0, coin});
      give(program, {real()});
      return;
    case 6:
      if (!filtered || shape.channels != 3) {
        return;
      }
      add(program, GL_COLOR, shape,
          {real(), real(), real(), real(), real(), real(), real(), real(), real(), real(), real(), real(), coin})
          .flags = GL_MAYBE;
      return;
    case 7:
      if (shape.dtype == GL_UINT8) {
        add(program, GL_LOOKUP, shape, {coin}).table = program.table;
      }
      return;
    case 8:
      if (shape.dtype == GL_UINT8) {
        add(program, random() % 2 ? GL_AUTOCONTRAST : GL_EQUALIZE, shape, {coin});
      }
      return;
    case 11:
      if (shape.dtype == GL_UINT8) {
        add(program, GL_SHARPEN, shape,
            {random() % 2 ? static_cast<double>(random() % 20) / 10 : std::fabs(real()) * 1e4});
      }
      return;
    case 12:
      if (shape.dtype != GL_UINT8) {
        return;
      }
      switch (random() % 4) {
        case 0: add(program, GL_BRIGHTNESS, shape, {std::fabs(real())}); return;
        case 1: add(program, GL_POSTERIZE, shape, {static_cast<double>(between(random, 1, 8))}); return;
        case 2: add(program, GL_SOLARIZE, shape, {real() * 100 + 128}); return;
        default:
          if (shape.channels == 3) {
            add(program, GL_CONTRAST, shape, {std::fabs(real())});
          }
          return;
      }
    case 9: {
      if (!filtered) {
        return;
      }
      gl_step& step = add(program, GL_BLUR, shape, {std::fabs(real()) * 3 + 1e-9});
      step.height = static_cast<int32_t>(2 * between(random, 0, 20) + 1);
      step.width = static_cast<int32_t>(2 * between(random, 0, 20) + 1);
      return;
    }
    case 10: {
      const int64_t height = between(random, 1, shape.height), width = between(random, 1, shape.width);
      add(program, GL_ERASE, shape,
          {static_cast<double>(between(random, 0, shape.height - height)),
           static_cast<double>(between(random, 0, shape.width - width)), static_cast<double>(height),
           static_cast<double>(width)});
      give(program, std::vector<double>(random() % 2 ? 1 : shape.channels, real()));
      return;
    }
    default: {
      gl_step& step = add(program, GL_AFFINE, shape, {});
      step.dtype_out = static_cast<int32_t>(random() % 5);
      give(program, std::vector<double>(random() % 2 ? 2 : 2 * shape.channels, real() * 10));
      shape.dtype = step.dtype_out;
    }
  }
}

// Up to three chains of an image's own size, summed.
void fork(Program& program, const Shape& shape, Random& random) {
  add(program, GL_FORK, shape, {}).column = -1;
  int64_t left = 1 << 16;
  for (int64_t chain = between(random, 0, 3); chain > 0; chain--) {
    for (int64_t k = between(random, 0, 3); k > 0; k--) {
      const size_t steps = program.steps.size(), params = program.params.size();
      Shape after = shape;
      extend(program, after, random);
      if (after.height != shape.height || after.width != shape.width || after.dtype != shape.dtype) {
        program.steps.resize(steps);
        program.params.resize(params);
      }
    }
    const int64_t weight = between(random, 0, left);
    left -= weight;
    add(program, GL_ADD, shape, {std::ldexp(static_cast<double>(weight), -16)});
  }
  add(program, GL_SUM, shape, {std::ldexp(static_cast<double>(left), -16)});
}

// Params that no caller should give.
void spoil(std::vector<double>& params, Random& random) {
  const double odd[] = {NAN, INFINITY, -INFINITY, -1, 0.5, 1e300, -1e300, 2147483648.0, 4294967296.0, 1e18, 0};
  for (int k = 0; k < 2 && !params.empty(); k++) {
    params[random() % params.size()] = odd[random() % std::size(odd)];
  }
}

// Runs one image; its status.
int32_t run(const Program& program, const std::vector<uint8_t>& image, const int64_t* size, int64_t bytes) {
  char reason[GL_REASON];
  gl_program* made = gl_program_new(program.steps.data(), static_cast<int32_t>(program.steps.size()),
                                    static_cast<int32_t>(program.params.size()), reason);
  if (!made) {
    fprintf(stderr, "refused: %s\n", reason);
    abort();
  }
  // Two images: the second meets what the first left behind.
  std::vector<double> rows = program.params;
  rows.insert(rows.end(), program.params.begin(), program.params.end());
  std::vector<int64_t> sizes(size, size + (program.steps[0].op == GL_DECODE ? 1 : 3));
  sizes.insert(sizes.end(), sizes.begin(), sizes.end());
  std::unique_ptr<uint8_t[]> outs[2] = {std::unique_ptr<uint8_t[]>(new uint8_t[bytes]),
                                        std::unique_ptr<uint8_t[]>(new uint8_t[bytes])};
  const void* images[2] = {image.data(), image.data()};
  void* places[2] = {outs[0].get(), outs[1].get()};
  const int64_t room[2] = {bytes, bytes};
  int32_t status[2];
  std::vector<char> reasons(2 * GL_REASON, 1);
  const int64_t failed = gl_run(made, 2, images, sizes.data(), rows.data(), places, room, status, reasons.data());
  if (status[0] != status[1] || failed != 2 * (status[0] != GL_OK)) {
    abort();
  }
  if (status[0] == GL_OK && memcmp(outs[0].get(), outs[1].get(), bytes) != 0) {
    abort();
  }
  if (status[0] != GL_OK && (!reasons[0] || !memchr(reasons.data(), 0, GL_REASON))) {
    abort();
  }
  gl_counter counters[128];
  gl_counters(made, counters);
  gl_program_free(made);
  return status[0];
}

// Cuts what random windows need out of a file, twice. What is written must lie in the memory that is given, and be
// smaller. Whether anything was; `whole` files must give plain JPEGs.
bool cut(const uint8_t* file, int64_t length, bool whole, Random& random) {
  const int64_t room = static_cast<int64_t>(random() % 4 ? length : random() % (length + 1));
  const std::unique_ptr<uint8_t[]> out(new uint8_t[room]);
  const uint8_t* files[2] = {file, file};
  const int64_t lengths[2] = {length, length};
  gl_header sides;
  gl_probe(1, files, lengths, 0, INT64_MAX, &sides);
  const int64_t odd[] = {0, -1, 70000, INT64_MAX, INT64_MIN, int64_t{1} << 33};
  int64_t windows[8];
  for (int64_t* window = windows; window < windows + 8; window += 4) {
    window[0] = between(random, 0, std::max(sides.height - 1, 0));
    window[1] = between(random, 0, std::max(sides.width - 1, 0));
    window[2] = between(random, 1, std::max<int64_t>(sides.height - window[0], 1));
    window[3] = between(random, 1, std::max<int64_t>(sides.width - window[1], 1));
    if (random() % 10 == 0) {
      window[random() % 4] = odd[random() % std::size(odd)];
    }
  }
  gl_part parts[2];
  gl_cut(2, files, lengths, windows, out.get(), room, parts);
  const uint8_t* begin = out.get();
  for (const gl_part& part : parts) {
    if (part.length < 0 || part.length > room - (begin - out.get()) || part.top < 0 || part.left < 0 ||
        (part.length && part.length >= length)) {
      abort();
    }
    gl_header header = {1, 0, 0};
    if (part.length) {
      gl_probe(1, &begin, &part.length, 0, INT64_MAX, &header);
    }
    if (whole && !header.plain) {
      abort();
    }
    begin += part.length;
  }
  return begin != out.get();
}

// Whether a file could be made another form; what it becomes must have its size.
bool transcoded(const std::vector<uint8_t>& file, Random& random) {
  const int32_t form = static_cast<int32_t>(random() % 5);
  const int64_t length = static_cast<int64_t>(file.size());
  char reason[GL_REASON] = {};
  int64_t needed = 0, room = static_cast<int64_t>(random() % 3 * file.size());
  for (;;) {
    std::unique_ptr<uint8_t[]> out(new uint8_t[room]);
    const int64_t written = gl_transcode(file.data(), length, form, out.get(), room, &needed, reason);
    if (written == 0 && needed > room) {
      room = needed;
      continue;
    }
    if (written < 0 ? !reason[0] : written != needed || written > room) {
      abort();
    }
    if (written <= 0 || form == GL_ENCODED) {
      return false;
    }
    const uint8_t* sides[2] = {file.data(), out.get()};
    const int64_t lengths[2] = {length, written};
    gl_header headers[2];
    gl_probe(2, sides, lengths, GL_KEPT, INT64_MAX, headers);
    if (!headers[1].plain || headers[0].height != headers[1].height || headers[0].width != headers[1].width) {
      abort();
    }
    if (form == GL_TRANSCODED) {
      cut(out.get(), written, true, random);
    }
    return true;
  }
}

void one_file(const std::vector<uint8_t>& file, Random& random, int64_t* counts) {
  const uint8_t* data = file.data();
  const int64_t length = static_cast<int64_t>(file.size());
  gl_header header;
  gl_probe(1, &data, &length, random() % 4, int64_t{1} << 28, &header);
  counts[5] += transcoded(file, random);
  counts[6] += cut(file.data(), length, false, random);
  Program program;
  Shape shape = {header.plain ? header.height : between(random, 1, 60),
                 header.plain ? header.width : between(random, 1, 60), 3, GL_UINT8};
  const bool part = random() % 2;
  if (part) {
    const int64_t height = between(random, 1, shape.height), width = between(random, 1, shape.width);
    add(program, GL_DECODE, shape,
        {static_cast<double>(between(random, 0, shape.height - height)),
         static_cast<double>(between(random, 0, shape.width - width)), static_cast<double>(height),
         static_cast<double>(width)})
        .flags = GL_WINDOW;
  } else {
    add(program, GL_DECODE, shape, {});
  }
  // Of a file that isn't plain the size isn't known: whatever it has is made this one.
  if (!header.plain || random() % 2) {
    resize(program, shape, random, 200);
  }
  if (part && program.steps.size() == 1) {
    shape.height = static_cast<int64_t>(program.params[2]);
    shape.width = static_cast<int64_t>(program.params[3]);
  }
  for (int64_t k = between(random, 0, 3); k > 0; k--) {
    extend(program, shape, random);
  }
  if (random() % 20 == 0) {
    spoil(program.params, random);
  }
  const int32_t status = run(program, file, &length, shape.bytes());
  counts[0]++;
  counts[1] += header.plain;
  counts[2 + status]++;
}

void one_program(Random& random, int64_t* counts) {
  const int64_t channels[] = {1, 3, 3, 3, 4, 7};
  Shape shape = {between(random, 1, 70), between(random, 1, 70), channels[random() % 6],
                 static_cast<int32_t>(random() % 3 ? GL_UINT8 : random() % 5)};
  int64_t size[3] = {shape.height, shape.width, shape.channels};
  std::vector<uint8_t> image(shape.bytes());
  for (uint8_t& byte : image) {
    byte = static_cast<uint8_t>(random());
  }
  Program program;
  for (uint8_t& level : program.table) {
    level = static_cast<uint8_t>(random());
  }
  add(program, GL_FLIP, shape, {0.0});
  for (int64_t k = between(random, 0, 6); k > 0; k--) {
    if (shape.dtype == GL_UINT8 && random() % 5 == 0) {
      fork(program, shape, random);
    } else {
      extend(program, shape, random);
    }
  }
  const bool spoilt = random() % 10 == 0;
  if (spoilt) {
    spoil(program.params, random);
    const int64_t odd[] = {0, -1, INT64_MAX, INT64_MIN, int64_t{1} << 40, int64_t{1} << 31};
    if (random() % 2) {
      size[random() % 3] = odd[random() % std::size(odd)];
    }
  }
  const int32_t status = run(program, image, size, shape.bytes());
  if (status != GL_OK && !spoilt) {
    abort();
  }
  counts[0]++;
  counts[1] += status == GL_OK;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t seed = argc > 1 ? atoll(argv[1]) : 0, programs = argc > 2 ? atoll(argv[2]) : 0;
  int64_t files[7] = {}, runs[2] = {};
  uint64_t length;
  while (fread(&length, sizeof length, 1, stdin) == 1) {
    std::vector<uint8_t> file(length);
    file.shrink_to_fit();
    if (length && fread(file.data(), length, 1, stdin) != 1) {
      return 2;
    }
    Random random(static_cast<uint64_t>(seed + files[0]));
    one_file(file, random, files);
  }
  for (int64_t i = 0; i < programs; i++) {
    Random random(static_cast<uint64_t>(seed + i));
    one_program(random, runs);
  }
  printf(
      "%lld files: %lld plain, %lld decoded, %lld refused, %lld calls refused, %lld transcoded, %lld cut out; %lld programs: %lld without a refusal\n",
      static_cast<long long>(files[0]), static_cast<long long>(files[1]), static_cast<long long>(files[2]),
      static_cast<long long>(files[3]), static_cast<long long>(files[4]), static_cast<long long>(files[5]),
      static_cast<long long>(files[6]),
      static_cast<long long>(runs[0]), static_cast<long long>(runs[1]));
  return 0;
}
