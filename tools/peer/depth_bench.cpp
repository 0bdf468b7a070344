// llama.cpp's decode speed at deep contexts, without computing these with the large model.
//
// The keys and values come from a stand-in of the same cache shape (as many layers and KV heads, one expert, width 32) that
// runs as many tokens, and go over by llama.cpp's own sequence state. What decoding reads and multiplies is the same as after
// a real prompt; what it says means nothing. Output: lines as of llama-bench -o jsonl.
//
// Build: c++ -O2 -std=c++17 depth_bench.cpp -I LLAMA/include -I LLAMA/ggml/include -L LLAMA/build/bin -lllama -lggml -lggml-base
//            -Wl,-rpath,LLAMA/build/bin -o depth_bench
// Run:   depth_bench MODEL.gguf THREADS DECODE_TOKENS REPETITIONS DEPTH...
#include "ggml.h"
#include "gguf.h"
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

static double now_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] static void fail(const char * what) {
    fprintf(stderr, "depth_bench: %s\n", what);
    exit(1);
}

static uint32_t meta(const llama_model * model, const char * key) {
    char text[64];
    if (llama_model_meta_val_str(model, key, text, sizeof text) < 0) fail(key);
    return strtoul(text, nullptr, 10);
}

struct Shape { uint32_t layers, kv_heads, head_dim, window, context; };

// A model file of pseudo-random f32 weights.
static void write_stand_in(const Shape & s, const char * path) {
    const int64_t width = 32, vocab = 64;
    ggml_init_params params = { size_t(64) << 20, nullptr, false };
    ggml_context * ctx = ggml_init(params);
    gguf_context * out = gguf_init_empty();
    auto u32 = [&](const char * key, uint32_t value) { gguf_set_val_u32(out, key, value); };
    gguf_set_val_str(out, "general.architecture", "gpt-oss");
    gguf_set_val_str(out, "tokenizer.ggml.model", "none");
    u32("gpt-oss.vocab_size", vocab);
    u32("gpt-oss.context_length", s.context);
    u32("gpt-oss.block_count", s.layers);
    u32("gpt-oss.embedding_length", width);
    u32("gpt-oss.feed_forward_length", width);
    u32("gpt-oss.expert_feed_forward_length", width);
    u32("gpt-oss.expert_count", 1);
    u32("gpt-oss.expert_used_count", 1);
    u32("gpt-oss.attention.head_count", s.kv_heads);
    u32("gpt-oss.attention.head_count_kv", s.kv_heads);
    u32("gpt-oss.attention.key_length", s.head_dim);
    u32("gpt-oss.attention.value_length", s.head_dim);
    u32("gpt-oss.attention.sliding_window", s.window);
    gguf_set_val_f32(out, "gpt-oss.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_set_val_f32(out, "gpt-oss.rope.freq_base", 150000.0f);
    uint32_t state = 1;
    auto add = [&](const std::string & name, int64_t a, int64_t b = 1, int64_t c = 1) {
        ggml_tensor * t = c > 1 ? ggml_new_tensor_3d(ctx, GGML_TYPE_F32, a, b, c)
            : b > 1 ? ggml_new_tensor_2d(ctx, GGML_TYPE_F32, a, b) : ggml_new_tensor_1d(ctx, GGML_TYPE_F32, a);
        for (int64_t i = 0; i < ggml_nelements(t); i++) {
            state = state * 1664525u + 1013904223u;
            ((float *) t->data)[i] = (state >> 8) / float(1 << 24) - 0.5f;
        }
        ggml_set_name(t, name.c_str());
        gguf_add_tensor(out, t);
    };
    auto add3 = [&](const std::string & name, int64_t a, int64_t b) { // one expert, and yet three dimensions
        ggml_tensor * t = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, a, b, 1);
        for (int64_t i = 0; i < ggml_nelements(t); i++) ((float *) t->data)[i] = 0.01f * (i % 7 - 3);
        ggml_set_name(t, name.c_str());
        gguf_add_tensor(out, t);
    };
    const int64_t heads_width = int64_t(s.kv_heads) * s.head_dim;
    add("token_embd.weight", width, vocab);
    add("output_norm.weight", width);
    add("output.weight", width, vocab);
    for (uint32_t i = 0; i < s.layers; i++) {
        const std::string b = "blk." + std::to_string(i) + ".";
        add(b + "attn_norm.weight", width);
        add(b + "post_attention_norm.weight", width);
        for (const char * name : { "attn_q", "attn_k", "attn_v" }) {
            add(b + name + ".weight", width, heads_width);
            add(b + name + ".bias", heads_width);
        }
        add(b + "attn_output.weight", heads_width, width);
        add(b + "attn_output.bias", width);
        add(b + "attn_sinks.weight", s.kv_heads);
        add(b + "ffn_gate_inp.weight", width);
        add(b + "ffn_gate_inp.bias", 1);
        for (const char * name : { "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps" }) {
            add3(b + name + ".weight", width, width);
            add(b + name + ".bias", width);
        }
    }
    if (!gguf_write_to_file(out, path, false)) fail("the stand-in can't be written");
    gguf_free(out);
    ggml_free(ctx);
}

static llama_context * context(llama_model * model, int tokens, int threads) {
    auto params = llama_context_default_params();
    params.n_ctx = (tokens + 255) / 256 * 256;
    params.n_threads = params.n_threads_batch = threads;
    llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) fail("no context");
    return ctx;
}

// Runs `count` tokens from position `first` on, in pieces of `piece`.
static void run(llama_context * ctx, int vocab, int first, int count, int piece) {
    llama_batch batch = llama_batch_init(piece, 0, 1);
    for (int done = 0; done < count; done += piece) {
        batch.n_tokens = std::min(piece, count - done);
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] = rand() % vocab;
            batch.pos[i] = first + done + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = i == batch.n_tokens - 1;
        }
        if (llama_decode(ctx, batch) != 0) fail("llama_decode");
        llama_synchronize(ctx);
    }
    llama_batch_free(batch);
}

static std::vector<uint8_t> stand_in_state(const char * path, int depth, int decode, int threads) {
    llama_model * model = llama_model_load_from_file(path, llama_model_default_params());
    if (!model) fail("the stand-in can't be loaded");
    llama_context * ctx = context(model, depth + decode, threads);
    run(ctx, llama_vocab_n_tokens(llama_model_get_vocab(model)), 0, depth, 512);
    std::vector<uint8_t> state(llama_state_seq_get_size(ctx, 0));
    llama_state_seq_get_data(ctx, state.data(), state.size(), 0);
    llama_free(ctx);
    llama_model_free(model);
    return state;
}

int main(int argc, char ** argv) {
    if (argc < 6) fail("usage: depth_bench MODEL.gguf THREADS DECODE_TOKENS REPETITIONS DEPTH...");
    const int threads = atoi(argv[2]), decode = atoi(argv[3]), repetitions = atoi(argv[4]);
    llama_backend_init();
    llama_log_set([](ggml_log_level level, const char * text, void *) { if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr); }, nullptr);
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) fail("the model can't be loaded");
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    const Shape shape = { uint32_t(llama_model_n_layer(model)), uint32_t(llama_model_n_head_kv(model)),
        meta(model, "gpt-oss.attention.key_length"), meta(model, "gpt-oss.attention.sliding_window"),
        meta(model, "gpt-oss.context_length") };
    const std::string path = (std::filesystem::temp_directory_path() / "depth_bench_stand_in.gguf").string();
    write_stand_in(shape, path.c_str());
    for (int arg = 5; arg < argc; arg++) {
        const int depth = atoi(argv[arg]);
        std::vector<uint8_t> state;
        const double start = now_seconds();
        if (depth > 0) state = stand_in_state(path.c_str(), depth, decode, threads);
        fprintf(stderr, "depth %d: %zu bytes of state in %.1f s\n", depth, state.size(), now_seconds() - start);
        llama_context * ctx = context(model, depth + decode, threads);
        run(ctx, vocab, 0, 1, 1); // first use of weights and buffers
        for (int r = 0; r < repetitions; r++) {
            llama_memory_clear(llama_get_memory(ctx), false);
            if (depth > 0 && llama_state_seq_set_data(ctx, state.data(), state.size(), 0) == 0) fail("the state does not fit");
            const double begin = now_seconds();
            run(ctx, vocab, depth, decode, 1);
            printf("{\"n_prompt\": 0, \"n_gen\": %d, \"n_depth\": %d, \"avg_ts\": %.4f}\n", decode, depth, decode / (now_seconds() - begin));
            fflush(stdout);
        }
        llama_free(ctx);
    }
    remove(path.c_str());
    llama_model_free(model);
}
