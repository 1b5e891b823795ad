// The kernel as two operations of TensorFlow, for its graphs. Built without TensorFlow's headers or libraries, on its C
// API alone: what is used of it is declared here, and looked up in the TensorFlow that has loaded this file. So one
// file serves several versions of TensorFlow, and none of them is needed to build it.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "abi.h"

namespace {

// ---- TensorFlow's C API, as in the include folder of TensorFlow 2.20 and 2.21

struct Status;
struct Tensor;
struct Construction;
struct Context;
struct KernelBuilder;
struct OpBuilder;
struct ShapeContext;
struct Shape;
struct Dimension;

enum Code { OK = 0, INVALID_ARGUMENT = 3, RESOURCE_EXHAUSTED = 8 };  // tsl_status.h
enum Type {                                                           // tf_datatype.h
  FLOAT = 1, DOUBLE = 2, INT32 = 3, UINT8 = 4, INT8 = 6, STRING = 7, INT64 = 9, BOOL = 10, BFLOAT16 = 14, HALF = 19,
};

// tensorflow/c/tf_status.h, tf_tensor.h, kernels.h, ops.h: name, result, arguments
#define FUNCTIONS(F)                                                                                       \
  F(TF_NewStatus, Status*)                                                                                 \
  F(TF_DeleteStatus, void, Status*)                                                                        \
  F(TF_SetStatus, void, Status*, Code, const char*)                                                        \
  F(TF_GetCode, Code, const Status*)                                                                       \
  F(TF_DeleteTensor, void, Tensor*)                                                                        \
  F(TF_TensorType, Type, const Tensor*)                                                                    \
  F(TF_NumDims, int, const Tensor*)                                                                        \
  F(TF_Dim, int64_t, const Tensor*, int)                                                                   \
  F(TF_TensorData, void*, const Tensor*)                                                                   \
  F(TF_TensorElementCount, int64_t, const Tensor*)                                                         \
  F(TF_GetInput, void, Context*, int, Tensor**, Status*)                                                   \
  F(TF_AllocateOutput, Tensor*, Context*, int, Type, const int64_t*, int, size_t, Status*)                 \
  F(TF_OpKernelContext_Failure, void, Context*, Status*)                                                   \
  F(TF_OpKernelConstruction_Failure, void, Construction*, Status*)                                         \
  F(TF_OpKernelConstruction_GetAttrSize, void, Construction*, const char*, int32_t*, int32_t*, Status*)    \
  F(TF_OpKernelConstruction_GetAttrString, void, Construction*, const char*, char*, size_t, Status*)       \
  F(TF_OpKernelConstruction_GetAttrInt64, void, Construction*, const char*, int64_t*, Status*)             \
  F(TF_OpKernelConstruction_GetAttrBool, void, Construction*, const char*, unsigned char*, Status*)        \
  F(TF_OpKernelConstruction_GetAttrType, void, Construction*, const char*, Type*, Status*)                 \
  F(TF_NewKernelBuilder, KernelBuilder*, const char*, const char*, void* (*)(Construction*),               \
    void (*)(void*, Context*), void (*)(void*))                                                            \
  F(TF_RegisterKernelBuilder, void, const char*, KernelBuilder*, Status*)                                  \
  F(TF_NewOpDefinitionBuilder, OpBuilder*, const char*)                                                    \
  F(TF_OpDefinitionBuilderAddInput, void, OpBuilder*, const char*)                                         \
  F(TF_OpDefinitionBuilderAddOutput, void, OpBuilder*, const char*)                                        \
  F(TF_OpDefinitionBuilderAddAttr, void, OpBuilder*, const char*)                                          \
  F(TF_OpDefinitionBuilderSetShapeInferenceFunction, void, OpBuilder*, void (*)(ShapeContext*, Status*))   \
  F(TF_RegisterOpDefinition, void, OpBuilder*, Status*)                                                    \
  F(TF_NewShapeHandle, Shape*)                                                                             \
  F(TF_DeleteShapeHandle, void, Shape*)                                                                    \
  F(TF_ShapeInferenceContextVectorFromSize, Shape*, ShapeContext*, size_t)                                 \
  F(TF_ShapeInferenceContextGetInput, void, ShapeContext*, int, Shape*, Status*)                           \
  F(TF_ShapeInferenceContextSetOutput, void, ShapeContext*, int, Shape*, Status*)                          \
  F(TF_ShapeInferenceContextConcatenateShapes, void, ShapeContext*, Shape*, Shape*, Shape*, Status*)       \
  F(TF_ShapeInferenceContextSetUnknownShape, void, ShapeContext*, Status*)

#define DECLARED(name, result, ...) result (*name)(__VA_ARGS__);
FUNCTIONS(DECLARED)

bool found_tensorflow() {
  void* library = dlopen("libtensorflow_framework.so.2", RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return false;
#define FOUND(name, ...)                                                     \
  name = reinterpret_cast<decltype(name)>(dlsym(library, #name));            \
  if (!name) return false;
  FUNCTIONS(FOUND)
  return true;
}

// Its strings, whose functions are inline in its headers: tsl/platform/ctstring_internal.h, little-endian. The two low
// bits of the first byte say the kind. Only what was read of it is written: strings of an output, which are empty.
struct String {
  union {
    struct { uint8_t size; char text[23]; } small;                // kind 0: size << 2
    struct { uint64_t size; uint64_t capacity; char* text; } large;  // kind 1: size << 2 | 1, from malloc
    struct { uint32_t size, offset, count; } near;                // kind 2: the text lies so far from here
    struct { uint64_t size; const char* text; void* owner; } view;   // kind 3
  };
};
static_assert(sizeof(String) == 24, "TF_TString takes 24 bytes");

const uint8_t* text_of(const String& s, int64_t& size) {
  const char* text = nullptr;
  switch (s.small.size & 3) {
    case 0: size = s.small.size >> 2; text = s.small.text; break;
    case 1: size = s.large.size >> 2; text = s.large.text; break;
    case 2: size = s.near.size >> 2; text = reinterpret_cast<const char*>(&s) + s.near.offset; break;
    default: size = s.view.size >> 2; text = s.view.text;
  }
  return reinterpret_cast<const uint8_t*>(text);
}

void write_text(String& s, const char* text) {
  size_t size = std::strlen(text);
  if (size < sizeof s.small.text) {
    s.small.size = static_cast<uint8_t>(size << 2);
    std::memcpy(s.small.text, text, size + 1);
    return;
  }
  char* copy = static_cast<char*>(std::malloc(size + 1));  // which TensorFlow frees
  if (!copy) return;
  std::memcpy(copy, text, size + 1);
  s.large.size = size << 2 | 1;
  s.large.capacity = size;
  s.large.text = copy;
}

// ---- what both operations need

// A call's status and tensors, given back when it ends.
class Call {
 public:
  explicit Call(Context* context) : context_(context), status_(TF_NewStatus()) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    for (Tensor* tensor : tensors_)
      if (tensor) TF_DeleteTensor(tensor);
    if (TF_GetCode(status_) != OK) TF_OpKernelContext_Failure(context_, status_);
    TF_DeleteStatus(status_);
  }
  bool fail(Code code, const char* text) {
    TF_SetStatus(status_, code, text);
    return false;
  }
  // Null where it failed; then the call fails.
  Tensor* input(int index) {
    Tensor* tensor = nullptr;
    TF_GetInput(context_, index, &tensor, status_);
    return kept(tensor);
  }
  Tensor* output(int index, Type type, const std::vector<int64_t>& dims, size_t bytes) {
    return kept(TF_AllocateOutput(context_, index, type, dims.data(), static_cast<int>(dims.size()), bytes, status_));
  }

 private:
  Tensor* kept(Tensor* tensor) {
    tensors_[count_++] = tensor;
    return TF_GetCode(status_) == OK ? tensor : nullptr;
  }
  Context* context_;
  Status* status_;
  Tensor* tensors_[8] = {};
  int count_ = 0;
};

template <class Value>
Value* data_of(const Tensor* tensor) {
  return static_cast<Value*>(TF_TensorData(tensor));
}

std::vector<int64_t> dims_of(const Tensor* tensor) {
  std::vector<int64_t> dims(TF_NumDims(tensor));
  for (size_t i = 0; i < dims.size(); i++) dims[i] = TF_Dim(tensor, static_cast<int>(i));
  return dims;
}

// No exception may reach TensorFlow.
template <class Kernel, void (*run)(const Kernel&, Call&)>
void compute(void* kernel, Context* context) {
  Call call(context);
  try {
    run(*static_cast<Kernel*>(kernel), call);
  } catch (const std::bad_alloc&) {
    call.fail(RESOURCE_EXHAUSTED, "greenload: no memory is left");
  }
}

template <class Kernel>
void* create(Construction* construction) {
  Status* status = TF_NewStatus();
  Kernel* kernel = nullptr;
  try {
    kernel = new Kernel;
    kernel->read(construction, status);
  } catch (const std::bad_alloc&) {
    TF_SetStatus(status, RESOURCE_EXHAUSTED, "greenload: no memory is left");
  }
  if (TF_GetCode(status) != OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return kernel;
}

template <class Kernel>
void destroy(void* kernel) {
  delete static_cast<Kernel*>(kernel);
}

// ---- GreenloadProbe: whether files are plain, and their sizes

struct Probe {
  unsigned char exif = 0;
  int64_t max_bytes = 0;
  void read(Construction* c, Status* status) {
    TF_OpKernelConstruction_GetAttrBool(c, "exif", &exif, status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrInt64(c, "max_bytes", &max_bytes, status);
  }
};

void probe(const Probe& kernel, Call& call) {
  const Tensor* files = call.input(0);
  if (!files) return;
  int64_t count = TF_TensorElementCount(files);
  std::vector<int64_t> dims = dims_of(files);
  Tensor* plain = call.output(0, BOOL, dims, count);
  dims.push_back(2);
  Tensor* sizes = plain ? call.output(1, INT64, dims, count * 2 * sizeof(int64_t)) : nullptr;
  if (!sizes) return;
  const String* strings = data_of<String>(files);
  for (int64_t i = 0; i < count; i++) {
    int64_t length = 0;
    const uint8_t* file = text_of(strings[i], length);
    gl_header header{};
    gl_probe(1, &file, &length, kernel.exif, kernel.max_bytes, &header);
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

// A program in an attribute, as `op.serialized` in Python writes it, little-endian: int32 GL_ABI, count of steps,
// columns; then each step: int32 op, flags, column, height, width, dtype_in, dtype_out, count, whether it has a table;
// its numbers; its table.
class Reader {
 public:
  explicit Reader(const std::vector<char>& bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}
  template <class Value>
  bool read(Value* values, size_t count) {
    if (static_cast<size_t>(end_ - at_) / sizeof(Value) < count) return false;
    if (count) std::memcpy(values, at_, count * sizeof(Value));
    at_ += count * sizeof(Value);
    return true;
  }
  size_t left() const { return end_ - at_; }

 private:
  const char *at_, *end_;
};

gl_program* program_of(const std::vector<char>& bytes, int32_t& columns, char* reason) {
  Reader reader(bytes);
  int32_t head[3], fields[9];
  bool whole = reader.read(head, 3) && head[0] == GL_ABI && head[1] >= 0;
  if (!whole || static_cast<size_t>(head[1]) > bytes.size() / sizeof fields) {
    std::strcpy(reason, "the program is of another version");
    return nullptr;
  }
  std::vector<gl_step> steps(head[1]);
  std::vector<std::vector<double>> numbers(head[1]);
  std::vector<std::vector<uint8_t>> tables(head[1]);
  for (size_t i = 0; i < steps.size() && whole; i++) {
    whole = reader.read(fields, 9) && fields[7] >= 0 && fields[7] <= static_cast<int64_t>(reader.left() / sizeof(double));
    if (!whole) break;
    numbers[i].resize(fields[7]);
    tables[i].resize(fields[8] ? 256 : 0);
    whole = reader.read(numbers[i].data(), numbers[i].size()) && reader.read(tables[i].data(), tables[i].size());
    steps[i] = {fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6], fields[7],
                numbers[i].empty() ? nullptr : numbers[i].data(), tables[i].empty() ? nullptr : tables[i].data()};
  }
  if (!whole || reader.left()) {
    std::strcpy(reason, "the program is cut off");
    return nullptr;
  }
  columns = head[2];
  return gl_program_new(steps.data(), head[1], columns, reason);
}

size_t value_bytes(Type type) {
  switch (type) {
    case UINT8: case INT8: return 1;
    case HALF: case BFLOAT16: return 2;
    case FLOAT: return 4;
    default: return 0;
  }
}

struct Run {
  gl_program* program = nullptr;
  int32_t columns = 0;
  int64_t height = 0, width = 0, channels = 0;
  Type type = UINT8;
  ~Run() {
    if (program) gl_program_free(program);
  }
  int64_t bytes() const { return height * width * channels * static_cast<int64_t>(value_bytes(type)); }
  void read(Construction* c, Status* status) {
    int32_t list = 0, length = 0;
    TF_OpKernelConstruction_GetAttrSize(c, "program", &list, &length, status);
    std::vector<char> bytes(length > 0 ? length : 0);
    if (TF_GetCode(status) == OK)
      TF_OpKernelConstruction_GetAttrString(c, "program", bytes.data(), bytes.size(), status);
    if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrType(c, "dtype", &type, status);
    for (auto side : {std::make_pair("height", &height), {"width", &width}, {"channels", &channels}})
      if (TF_GetCode(status) == OK) TF_OpKernelConstruction_GetAttrInt64(c, side.first, side.second, status);
    if (TF_GetCode(status) != OK) return;
    if (height > INT32_MAX || width > INT32_MAX || channels > 16)
      return TF_SetStatus(status, INVALID_ARGUMENT, "greenload: the images would be too large");
    char reason[GL_REASON] = "";
    program = program_of(bytes, columns, reason);
    if (!program) TF_SetStatus(status, INVALID_ARGUMENT, reason);
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
    if (TF_TensorElementCount(images) != count) return call.fail(INVALID_ARGUMENT, "greenload: not a row for each file");
    const String* strings = data_of<String>(images);
    for (int64_t i = 0; i < count; i++) inputs.images[i] = text_of(strings[i], inputs.sizes[i]);
    return true;
  }
  if (TF_TensorElementCount(sizes) != 3 * count) return call.fail(INVALID_ARGUMENT, "greenload: not a size for each image");
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

void run(const Run& kernel, Call& call) {
  const Tensor* images = call.input(0);
  const Tensor* sizes = images ? call.input(1) : nullptr;
  const Tensor* params = sizes ? call.input(2) : nullptr;
  if (!params) return;
  if (TF_NumDims(params) != 2 || TF_Dim(params, 1) != kernel.columns) {
    call.fail(INVALID_ARGUMENT, "greenload: params are of another program");
    return;
  }
  int64_t count = TF_Dim(params, 0), bytes = kernel.bytes();
  Inputs inputs;
  if (!inputs_of(images, sizes, count, inputs, call)) return;
  if (bytes && count > std::numeric_limits<int64_t>::max() / bytes) {
    call.fail(RESOURCE_EXHAUSTED, "greenload: the batch would be too large");
    return;
  }
  Tensor* batch = call.output(0, kernel.type, {count, kernel.height, kernel.width, kernel.channels}, count * bytes);
  Tensor* status = batch ? call.output(1, INT32, {count}, count * sizeof(int32_t)) : nullptr;
  Tensor* reasons = status ? call.output(2, STRING, {count}, count * sizeof(String)) : nullptr;
  if (!reasons) return;
  std::vector<void*> outs(count);
  std::vector<int64_t> each(count, bytes);
  for (int64_t i = 0; i < count; i++) outs[i] = data_of<char>(batch) + i * bytes;
  std::vector<char> texts(count * GL_REASON);
  int32_t* statuses = data_of<int32_t>(status);
  gl_run(kernel.program, count, inputs.images.data(), inputs.sizes.data(), data_of<double>(params), outs.data(),
         each.data(), statuses, texts.data());
  for (int64_t i = 0; i < count; i++)
    if (statuses[i]) write_text(data_of<String>(reasons)[i], &texts[i * GL_REASON]);
}

void run_shapes(ShapeContext* context, Status* status) {  // attributes' numbers can't be asked for: op.py sets them
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

// ---- registration

template <class Kernel, void (*work)(const Kernel&, Call&)>
void add(const char* name, std::vector<const char*> inputs, std::vector<const char*> outputs,
         std::vector<const char*> attributes, void (*shapes)(ShapeContext*, Status*), Status* status) {
  OpBuilder* op = TF_NewOpDefinitionBuilder(name);
  for (const char* attribute : attributes) TF_OpDefinitionBuilderAddAttr(op, attribute);
  for (const char* input : inputs) TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* output : outputs) TF_OpDefinitionBuilderAddOutput(op, output);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(op, shapes);
  TF_RegisterOpDefinition(op, status);
  if (TF_GetCode(status) != OK) return;
  KernelBuilder* builder = TF_NewKernelBuilder(name, "CPU", create<Kernel>, compute<Kernel, work>, destroy<Kernel>);
  TF_RegisterKernelBuilder(name, builder, status);
}

// While TensorFlow loads this file. Where TensorFlow isn't there, or lacks a function, no operation is registered.
__attribute__((constructor)) void register_all() {
  if (!found_tensorflow() || gl_abi() != GL_ABI) return;
  Status* status = TF_NewStatus();
  add<Probe, probe>("GreenloadProbe", {"files: string"}, {"plain: bool", "sizes: int64"},
                    {"exif: bool", "max_bytes: int"}, probe_shapes, status);
  if (TF_GetCode(status) == OK)
    add<Run, run>("GreenloadRun", {"images: T", "sizes: int64", "params: double"},
                  {"batch: dtype", "status: int32", "reasons: string"},
                  {"T: {string, uint8, int8, half, bfloat16, float}", "dtype: {uint8, int8, half, bfloat16, float}",
                   "program: string", "height: int", "width: int", "channels: int"},
                  run_shapes, status);
  TF_DeleteStatus(status);
}

}  // namespace
