// What a store asks of the file system.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace greenload {

// A file's number, closed in the end.
struct OpenFile {
  explicit OpenFile(int number_) : number(number_) {}
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  const int number;  // −1: none
};

// Whether it could be done; errno says why not, 0 of a file that is too short.
bool read_at(int file, void* to, size_t size, int64_t offset);
bool write_all(int file, const void* from, size_t size);
// Whether so many bytes more leave free what others need of the disk.
bool leaves_reserve(const std::string& folder, int64_t bytes);
// With those above it.
bool make_folder(const std::string& path);

// Of a key below a folder: made where it is missing, without links in its path. Throws a Failure where it can't be.
std::string key_folder(const char* folder, const uint8_t* key);

// Adds names of files that end so; false, and errno, where the folder can't be read.
bool names_in(const std::string& folder, const char* suffix, std::vector<std::string>* names);

}  // namespace greenload
