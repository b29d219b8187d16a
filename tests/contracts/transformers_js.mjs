// Encodes or classifies texts with an exported model, as a page or a node program would; the answer is one line of JSON.
// Usage: node transformers_js.mjs FOLDER_OF_THE_PACKAGE MODELS_FOLDER MODEL < texts.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [packageFolder, models, model] = process.argv.slice(2);
const { AutoConfig, AutoModel, AutoTokenizer, env, pipeline } = await import(
  pathToFileURL(`${packageFolder}/dist/transformers.node.mjs`)
);
env.allowRemoteModels = false;
env.localModelPath = models;
const texts = JSON.parse(readFileSync(0, "utf8"));

const { id2label } = await AutoConfig.from_pretrained(model);
if (id2label) {
  const classifier = await pipeline("text-classification", model);
  console.log(JSON.stringify(await classifier(texts, { top_k: null })));
  process.exit();
}

const extractor = await pipeline("feature-extraction", model);
const pooled = await extractor(texts, { pooling: "mean", normalize: true });

const tokenizer = await AutoTokenizer.from_pretrained(model);
const inputs = tokenizer(texts, { padding: true, truncation: true });
const { embeddings, sentence_embedding } = await (await AutoModel.from_pretrained(model))(inputs);
// What tokenizers of BERT send along.
const token_type_ids = inputs.input_ids.mul(0n);
const typed = await extractor.model({ ...inputs, token_type_ids });
const empty = await extractor.model(tokenizer("", {}));

console.log(
  JSON.stringify({
    pooled: pooled.tolist(), // NaN becomes null
    embeddings: embeddings.tolist(),
    sentence_embedding: sentence_embedding.tolist(),
    typed: typed.sentence_embedding.tolist(),
    empty: empty.sentence_embedding.tolist(),
  }),
);
