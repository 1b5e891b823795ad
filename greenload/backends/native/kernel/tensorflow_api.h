// What is used of TensorFlow's C API, looked up in the TensorFlow that is loaded. The same in 2.20 and 2.21.
#pragma once
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

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
  F(TF_NumInputs, int, Context*)                                                                           \
  F(TF_NumOutputs, int, Context*)                                                                          \
  F(TF_ExpectedOutputDataType, Type, Context*, int)                                                        \
  F(TF_StepId, int64_t, Context*)                                                                          \
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

inline bool found_tensorflow() {
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

inline const uint8_t* text_of(const String& s, int64_t& size) {
  const char* text = nullptr;
  switch (s.small.size & 3) {
    case 0: size = s.small.size >> 2; text = s.small.text; break;
    case 1: size = s.large.size >> 2; text = s.large.text; break;
    case 2: size = s.near.size >> 2; text = reinterpret_cast<const char*>(&s) + s.near.offset; break;
    default: size = s.view.size >> 2; text = s.view.text;
  }
  return reinterpret_cast<const uint8_t*>(text);
}

// Memory for a text of so many bytes, in a string of an output; null where there is none.
inline char* room_for(String& s, size_t size) {
  if (size < sizeof s.small.text) {
    s.small.size = static_cast<uint8_t>(size << 2);
    s.small.text[size] = 0;
    return s.small.text;
  }
  char* text = static_cast<char*>(std::malloc(size + 1));  // which TensorFlow frees
  if (!text) return nullptr;
  text[size] = 0;
  s.large.size = size << 2 | 1;
  s.large.capacity = size;
  s.large.text = text;
  return text;
}

// The string is empty afterwards. Only for one that room_for was called on.
inline void give_back(String& s) {
  if ((s.small.size & 3) == 1) std::free(s.large.text);
  s.small.size = 0;
  s.small.text[0] = 0;
}

// A string of an output that shows a text where it lies: this must outlive it.
inline void view(String& s, const uint8_t* text, size_t size) {
  s.view.size = size << 2 | 3;
  s.view.text = reinterpret_cast<const char*>(text);
  s.view.owner = nullptr;
}

inline void write_text(String& s, const char* text) {
  const size_t size = std::strlen(text);
  if (char* room = room_for(s, size)) std::memcpy(room, text, size);
}

}  // namespace
