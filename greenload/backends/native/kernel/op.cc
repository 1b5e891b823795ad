// The kernel as operations of TensorFlow, for its graphs: on images. Those on files are in op_files.cc. Built without
// TensorFlow's headers or libraries, on its C API alone. So one file serves several versions of TensorFlow, and none of
// them is needed to build it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "abi.h"
#include "chosen_programs.h"
#include "crew.h"
#include "operation.h"

namespace {

// ---- GreenloadProbe: whether files are plain, and their sizes

struct Probe {
  unsigned char exif = 0, kept = 0;
  int64_t max_bytes = 0;
  void read(Construction* c, Status* status) {
    TF_OpKernelConstruction_GetAttrBool(c, "exif", &exif, status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrBool(c, "kept", &kept, status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrInt64(c, "max_bytes", &max_bytes, status);
  }
};

void probe(Probe& kernel, Call& call) {
  const Tensor* files = call.input(0);
  if (call.failed()) return;
  int64_t count = TF_TensorElementCount(files);
  std::vector<int64_t> dims = dims_of(files);
  Tensor* plain = call.output(0, BOOL, dims, count);
  dims.push_back(2);
  Tensor* sizes = call.output(1, INT64, dims, count * 2 * sizeof(int64_t));
  if (call.failed()) return;
  const String* strings = data_of<String>(files);
  for (int64_t i = 0; i < count; i++) {
    int64_t length = 0;
    const uint8_t* file = text_of(strings[i], length);
    gl_header header{};
    // What isn't a JPEG is in a form of the kernel's own, and was small enough when it was kept.
    const bool own = kernel.kept && !(length > 1 && file[0] == 0xFF && file[1] == 0xD8);
    gl_probe(1, &file, &length, own ? GL_KEPT : kernel.exif ? GL_EXIF : 0,
             own ? std::numeric_limits<int64_t>::max() : kernel.max_bytes, &header);
    data_of<bool>(plain)[i] = header.plain;
    data_of<int64_t>(sizes)[2 * i] = header.height;
    data_of<int64_t>(sizes)[2 * i + 1] = header.width;
  }
}

void probe_shapes(ShapeContext* context, Status* status) {
  Shape* files = TF_NewShapeHandle();
  Shape* sizes = TF_NewShapeHandle();
  Shape* two = TF_ShapeInferenceContextVectorFromSize(context, 2);
  TF_ShapeInferenceContextGetInput(context, 0, files, status);
  if (TF_GetCode(status) == OK) TF_ShapeInferenceContextSetOutput(context, 0, files, status);
  if (TF_GetCode(status) == OK) TF_ShapeInferenceContextConcatenateShapes(context, files, two, sizes, status);
  if (TF_GetCode(status) == OK) TF_ShapeInferenceContextSetOutput(context, 1, sizes, status);
  for (Shape* shape : {files, sizes, two}) TF_DeleteShapeHandle(shape);
}

// ---- GreenloadRun: images through a program, into a batch

size_t value_bytes(Type type) {
  switch (type) {
    case UINT8: case INT8: return 1;
    case HALF: case BFLOAT16: return 2;
    case FLOAT: return 4;
    default: return 0;
  }
}

// A type as gl_dtype; −1 for one that no image has.
int32_t dtype_of(Type type) {
  switch (type) {
    case UINT8: return GL_UINT8;
    case INT8: return GL_INT8;
    case HALF: return GL_FLOAT16;
    case BFLOAT16: return GL_BFLOAT16;
    case FLOAT: return GL_FLOAT32;
    default: return -1;
  }
}

std::vector<char> text(Construction* c, const char* name, Status* status) {
  int32_t list = 0, length = 0;
  if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrSize(c, name, &list, &length, status);
  std::vector<char> bytes(length > 0 ? length : 0);
  if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrString(c, name, bytes.data(), bytes.size(), status);
  return bytes;
}

void read_program(Construction* c, Programs& programs, const std::string& counter, Status* status) {
  const std::vector<char> bytes = text(c, "program", status);
  char reason[GL_REASON] = "";
  if (TF_GetCode(status) == OK && !programs.read(bytes, counter, reason))
    TF_SetStatus(status, INVALID_ARGUMENT, reason);
}

struct Run {
  Programs programs;
  int64_t height = 0, width = 0, channels = 0, helpers = 0;
  Type type = UINT8;
  int64_t bytes() const { return height * width * channels * static_cast<int64_t>(value_bytes(type)); }
  void read(Construction* c, Status* status) {
    const std::vector<char> counter = text(c, "counter", status);
    read_program(c, programs, {counter.begin(), counter.end()}, status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrType(c, "dtype", &type, status);
    for (auto side : {std::make_pair("height", &height), {"width", &width}, {"channels", &channels}, {"helpers", &helpers}})
      if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrInt64(c, side.first, side.second, status);
    if (TF_GetCode(status) != OK) return;
    for (int64_t side : {height, width, channels})
      if (side < 0 || side > UINT16_MAX)
        return TF_SetStatus(status, INVALID_ARGUMENT, "greenload: images of these sides can't be made");
  }
};

// Where images begin, and their sizes as `gl_run` takes them.
struct Inputs {
  std::vector<const void*> images;
  std::vector<int64_t> sizes;
};

bool inputs_of(const Tensor* images, const Tensor* sizes, int64_t count, Inputs& inputs, Call& call) {
  inputs.images.resize(count);
  Type type = TF_TensorType(images);
  if (type == STRING) {
    inputs.sizes.resize(count);
    if (TF_TensorElementCount(images) != count) return call.fail(INVALID_ARGUMENT, "greenload: not a file a row");
    const String* strings = data_of<String>(images);
    for (int64_t i = 0; i < count; i++) inputs.images[i] = text_of(strings[i], inputs.sizes[i]);
    return true;
  }
  if (TF_TensorElementCount(sizes) != 3 * count) return call.fail(INVALID_ARGUMENT, "greenload: not a size an image");
  inputs.sizes.assign(data_of<int64_t>(sizes), data_of<int64_t>(sizes) + 3 * count);
  const char* at = data_of<char>(images);
  int64_t left = TF_TensorElementCount(images);
  for (int64_t i = 0; i < count; i++) {
    int64_t values = 1;
    for (int k = 0; k < 3; k++) {
      int64_t side = inputs.sizes[3 * i + k];
      if (side < 0 || (side && values > left / side)) return call.fail(INVALID_ARGUMENT, "greenload: sizes are wrong");
      values *= side;
    }
    inputs.images[i] = at;
    at += values * value_bytes(type);
    left -= values;
  }
  return left == 0 || call.fail(INVALID_ARGUMENT, "greenload: sizes are wrong");
}

// A batch on its way: of each image where it lies, where its result goes, and what became of it.
struct Batch {
  Inputs inputs;
  const double* params;
  const int64_t* choices;
  int64_t chosen;  // columns of choices
  std::vector<void*> outs;
  std::vector<int64_t> bytes;
  int32_t* status;
  std::vector<char> reasons;

  void run(gl_program* program, int64_t first, int64_t count, int32_t columns) {
    size_t each = inputs.sizes.size() / outs.size();
    gl_run(program, count, &inputs.images[first], &inputs.sizes[each * first], params + first * columns, &outs[first],
           &bytes[first], status + first, &reasons[first * GL_REASON]);
  }
  void run_part(Programs& programs, int64_t first, int64_t count) {
    if (programs.only()) return run(programs.only().get(), first, count, programs.columns());
    for (int64_t i = first; i < first + count; i++) {
      status[i] = GL_BAD_CALL;  // unless there is a program
      try {
        Program program = programs.of(choices + i * chosen, &reasons[i * GL_REASON]);
        if (program) run(program.get(), i, 1, programs.columns());
      } catch (const std::exception& error) {
        std::snprintf(&reasons[i * GL_REASON], GL_REASON, "%s", error.what());
      }
    }
  }
  void run_all(Programs& programs, int64_t helpers) {
    const int64_t count = outs.size();
    // Images differ in cost: with one part for each thread, threads would wait for the last.
    const int64_t part = std::max<int64_t>(1, count / (4 * (helpers + 1)));
    greenload::share(count, part, helpers, [&](int64_t first, int64_t some) { run_part(programs, first, some); });
  }
};

void run(Run& kernel, Call& call) {
  const Tensor *images = call.input(0), *sizes = call.input(1), *params = call.input(2), *choices = call.input(3);
  if (call.failed()) return;
  Programs& programs = kernel.programs;
  if (TF_NumDims(params) != 2 || TF_Dim(params, 1) != programs.columns() || TF_NumDims(choices) != 2 ||
      TF_Dim(choices, 0) != TF_Dim(params, 0) || TF_Dim(choices, 1) < programs.choices()) {
    call.fail(INVALID_ARGUMENT, "greenload: params or choices are of another program");
    return;
  }
  // The attributes come with a graph, which may be anybody's: the kernel reads as many bytes as the program says.
  const bool files = TF_TensorType(images) == STRING;
  if (files != programs.of_files() || (!files && dtype_of(TF_TensorType(images)) != programs.dtype_in()) ||
      dtype_of(kernel.type) != programs.dtype_out()) {
    call.fail(INVALID_ARGUMENT, "greenload: the images or results are of another type than the program's");
    return;
  }
  int64_t count = TF_Dim(params, 0), bytes = kernel.bytes();
  Batch batch;
  if (!inputs_of(images, sizes, count, batch.inputs, call)) return;
  if (bytes && count > std::numeric_limits<int64_t>::max() / bytes) {
    call.fail(RESOURCE_EXHAUSTED, "greenload: the batch would be too large");
    return;
  }
  Tensor* done = call.output(0, kernel.type, {count, kernel.height, kernel.width, kernel.channels}, count * bytes);
  Tensor* status = call.output(1, INT32, {count}, count * sizeof(int32_t));
  Tensor* reasons = call.output(2, STRING, {count}, count * sizeof(String));
  if (call.failed() || !count) return;
  batch.params = data_of<double>(params);
  batch.choices = data_of<int64_t>(choices);
  batch.chosen = TF_Dim(choices, 1);
  batch.outs.resize(count);
  for (int64_t i = 0; i < count; i++) batch.outs[i] = data_of<char>(done) + i * bytes;
  batch.bytes.assign(count, bytes);
  batch.status = data_of<int32_t>(status);
  batch.reasons.resize(count * GL_REASON);
  batch.run_all(programs, kernel.helpers);
  for (int64_t i = 0; i < count; i++) {
    if (!batch.status[i]) continue;
    std::memset(batch.outs[i], 0, bytes);  // rather than what this memory held before
    write_text(data_of<String>(reasons)[i], &batch.reasons[i * GL_REASON]);
  }
}

void run_shapes(ShapeContext* context, Status* status) {  // attributes' numbers can't be asked for: op.py sets them
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

// ---- GreenloadMake: files through a program, each into a binary PPM of its own size

struct Make {
  Programs programs;
  int64_t helpers = 0;
  void read(Construction* c, Status* status) {
    read_program(c, programs, "", status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrInt64(c, "helpers", &helpers, status);
    if (TF_GetCode(status) != OK) return;
    if (!programs.of_files() || programs.choices() || programs.dtype_out() != GL_UINT8)
      TF_SetStatus(status, INVALID_ARGUMENT, "greenload: the program doesn't make RGB images of files");
  }
};

void make(Make& kernel, Call& call) {
  const Tensor *files = call.input(0), *params = call.input(1), *sides = call.input(2);
  if (call.failed()) return;
  Programs& programs = kernel.programs;
  const int64_t count = TF_TensorElementCount(files);
  if (TF_NumDims(params) != 2 || TF_Dim(params, 0) != count || TF_Dim(params, 1) != programs.columns() ||
      TF_TensorElementCount(sides) != 2 * count) {
    call.fail(INVALID_ARGUMENT, "greenload: params or sides are of another program");
    return;
  }
  Batch batch;
  if (!inputs_of(files, sides, count, batch.inputs, call)) return;
  Tensor* done = call.output(0, STRING, {count}, count * sizeof(String));
  Tensor* status = call.output(1, INT32, {count}, count * sizeof(int32_t));
  if (call.failed() || !count) return;
  batch.params = data_of<double>(params);
  batch.status = data_of<int32_t>(status);
  batch.reasons.resize(count * GL_REASON);
  String* images = data_of<String>(done);
  for (int64_t i = 0; i < count; i++) {
    const int64_t height = data_of<int64_t>(sides)[2 * i], width = data_of<int64_t>(sides)[2 * i + 1];
    const bool possible = height > 0 && width > 0 && height <= UINT16_MAX && width <= UINT16_MAX;
    char head[64];
    const int length = std::snprintf(head, sizeof head, "P6\n%d %d\n255\n", possible ? static_cast<int>(width) : 0,
                                     possible ? static_cast<int>(height) : 0);
    batch.bytes.push_back(possible ? 3 * height * width : 0);
    char* room = room_for(images[i], length + batch.bytes[i]);
    if (!room) {
      call.fail(RESOURCE_EXHAUSTED, "greenload: no memory for an image");
      return;
    }
    std::memcpy(room, head, length);
    batch.outs.push_back(room + length);
  }
  batch.run_all(programs, kernel.helpers);
  for (int64_t i = 0; i < count; i++)
    if (batch.status[i]) give_back(images[i]);
}

void make_shapes(ShapeContext* context, Status* status) {
  Shape* files = TF_NewShapeHandle();
  TF_ShapeInferenceContextGetInput(context, 0, files, status);
  for (int i = 0; i < 2 && TF_GetCode(status) == OK; i++)
    TF_ShapeInferenceContextSetOutput(context, i, files, status);
  TF_DeleteShapeHandle(files);
}

// ---- registration

// While TensorFlow loads this file. Where TensorFlow isn't there, or lacks a function, no operation is registered.
__attribute__((constructor)) void register_all() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Probe, probe>("GreenloadProbe", {"files: string"}, {"plain: bool", "sizes: int64"},
                    {"exif: bool", "kept: bool", "max_bytes: int"}, probe_shapes, status);
  if (TF_GetCode(status) == OK)
    add<Make, make>("GreenloadMake", {"files: string", "params: double", "sides: int64"},
                    {"images: string", "status: int32"}, {"program: string", "helpers: int = 0"}, make_shapes, status);
  if (TF_GetCode(status) == OK)
    add<Run, run>("GreenloadRun", {"images: T", "sizes: int64", "params: double", "choices: int64"},
                  {"batch: dtype", "status: int32", "reasons: string"},
                  {"T: {string, uint8, int8, half, bfloat16, float}", "dtype: {uint8, int8, half, bfloat16, float}",
                   "program: string", "counter: string = ''", "height: int", "width: int", "channels: int",
                   "helpers: int = 0"},
                  run_shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace
