// SPDX-License-Identifier: Apache-2.0

package mls

// This file is the table of all rules that are enforced. A rule has a stable
// id: "valnNNNN" of the list that MLS implementations share
// (validation.openmls.tech), or a name of our own where that list has none.
//
// A few rules of the shared list only say that an object inside must be valid;
// they are marked Within, and what is reported is the rule that the inner object
// breaks.

// The rules of leaf nodes and key packages.
const (
	RuleLeafCredential        Rule = "valn0101"
	RuleLeafSignature         Rule = "valn0102"
	RuleLeafRequired          Rule = "valn0103"
	RuleLeafCredentialSupport Rule = "valn0104"
	RuleLeafExpiredSending    Rule = "valn0105"
	RuleLeafExpired           Rule = "valn0106"
	RuleLeafExtensions        Rule = "valn0107"
	RuleLeafSourceKeyPackage  Rule = "valn0108"
	RuleLeafSourceUpdate      Rule = "valn0109"
	RuleLeafSourceCommit      Rule = "valn0110"
	RuleSignatureKeyUnique    Rule = "valn0111"
	RuleEncryptionUnique      Rule = "valn0112"
	RuleLeafOwnCredential     Rule = "valn0113"
	RuleLeafDefaults          Rule = "leaf-defaults"
	RuleLeafLifetime          Rule = "leaf-lifetime"
	RuleLeafKeys              Rule = "leaf-keys"
	RuleLeafSuite             Rule = "leaf-suite"
	RuleLeafSuccessor         Rule = "leaf-successor"
	RuleCredentialX509        Rule = "credential-x509"

	RuleKeyPackageSuite     Rule = "valn0201"
	RuleKeyPackageLeaf      Rule = "valn0202"
	RuleKeyPackageSignature Rule = "valn0203"
	RuleKeyPackageInitKey   Rule = "valn0204"
	RuleKeyPackageVersion   Rule = "valn0205"
)

// The rules of proposal lists.
const (
	RuleProposalInvalid     Rule = "valn0301"
	RuleUpdateByCommitter   Rule = "valn0302"
	RuleRemoveCommitter     Rule = "valn0303"
	RuleSameLeaf            Rule = "valn0304"
	RuleReferenceTwice      Rule = "reference-twice"
	RuleAddTwice            Rule = "valn0305"
	RuleAddMember           Rule = "valn0306"
	RulePSKTwice            Rule = "valn0307"
	RuleContextTwice        Rule = "valn0308"
	RuleReInitAlone         Rule = "valn0309"
	RuleExternalInitMember  Rule = "valn0310"
	RuleProposalSupport     Rule = "valn0311"
	RuleTreeAfter           Rule = "valn0312"
	RuleInitKeyTwice        Rule = "ValSem102"
	RuleExternalInitOnce    Rule = "valn0401"
	RuleExternalRemove      Rule = "valn0402"
	RuleExternalPSK         Rule = "valn0403"
	RuleExternalOther       Rule = "valn0404"
	RuleExternalPath        Rule = "valn0405"
	RuleExternalByReference Rule = "valn0406"
	RuleExternalSignature   Rule = "valn0407"
	RuleExternalSenderType  Rule = "valn0408"
	RuleAddKeyPackage       Rule = "valn0501"
	RuleUpdateLeaf          Rule = "valn0601"
	RuleUpdateSender        Rule = "ValSem112"
	RuleRemoveBlank         Rule = "valn0701"
	RulePSKReInit           Rule = "valn0801"
	RulePSKBranch           Rule = "valn0802"
	RulePSKNonce            Rule = "valn0803"
	RuleReInitVersion       Rule = "valn0901"
	RuleContextRequired     Rule = "valn1001"
	RuleContextSupport      Rule = "context-support"
	RuleContextSenders      Rule = "context-senders"
	RuleReInitFrozen        Rule = "reinit-frozen"
	RuleSelfRemoveValue     Rule = "selfremove-by-value"
	RuleSelfRemovePrivate   Rule = "selfremove-private"
	RuleSelfRemoveCommitter Rule = "selfremove-committer"
	RuleAppDataMixed        Rule = "appdata-mixed"
	RuleAppDataMissing      Rule = "appdata-missing"
	RuleAppDataRefused      Rule = "appdata-refused"
	RuleAppDataContext      Rule = "appdata-context"
	RuleAppDataFormat       Rule = "appdata-format"
	RuleAppComponents       Rule = "app-components"
	RulePolicy              Rule = "policy"
	RuleLimit               Rule = "limit"
)

// The rules of paths, trees and extensions.
const (
	RulePathCiphertexts Rule = "valn1101"
	RulePathLength      Rule = "path-length"
	RulePathParentHash  Rule = "path-hash"
	RulePathKeys        Rule = "path-keys"
	RulePathDecrypt     Rule = "path-decrypt"
	RulePathKeyFormat   Rule = "path-key-shape"

	RuleTreeTooLarge      Rule = "tree-size"
	RuleTreeShape         Rule = "tree-shape"
	RuleTreeTrailingBlank Rule = "tree-trailing"
	RuleTreeParentHash    Rule = "valn1406"
	RuleTreeUnmergedLeaf  Rule = "valn1408"
	RuleTreeUnmergedPath  Rule = "valn1409"
	RuleTreeParentKey     Rule = "valn1410"
	RuleTreeKeyFormat     Rule = "tree-key-shape"

	RuleExtensionUnique      Rule = "extension-unique"
	RuleExtensionLeaf        Rule = "valn1601"
	RuleExtensionGroupInfo   Rule = "valn1602"
	RuleExtensionContext     Rule = "valn1603"
	RuleExtensionKeyPackage  Rule = "valn1604"
	RuleExtensionUnsupported Rule = "extension-unsupported"
)

// The rules of messages and commits.
const (
	RuleGroupID              Rule = "ValSem002"
	RuleSenderBlank          Rule = "ValSem004"
	RuleApplicationPublic    Rule = "ValSem005"
	RuleDecrypt              Rule = "ValSem006"
	RuleSignature            Rule = "valn1301"
	RuleMembershipTag        Rule = "valn1302"
	RulePadding              Rule = "valn1303"
	RulePrivateSignature     Rule = "valn1304"
	RulePrivateSender        Rule = "valn1305"
	RuleSenderDataLeaf       Rule = "valn1306"
	RuleProposalEpoch        Rule = "valn1307"
	RuleSenderData           Rule = "sender-data"
	RuleSafeAAD              Rule = "safe-aad"
	RuleExternalContent      Rule = "valn1501"
	RuleExternalProposalType Rule = "valn1502"
	RuleNewMemberContent     Rule = "valn1503"
	RuleNewMemberType        Rule = "valn1504"
	RuleExternalSenderIndex  Rule = "external-sender"
	RuleJoinerContent        Rule = "joiner-content"

	RuleCommitEpoch         Rule = "valn1201"
	RuleCommitMembershipTag Rule = "valn1202"
	RuleCommitSignature     Rule = "valn1203"
	RuleCommitProposals     Rule = "valn1204"
	RuleCommitPSK           Rule = "valn1205"
	RuleCommitPath          Rule = "valn1206"
	RuleCommitLeaf          Rule = "valn1207"
	RuleCommitLeafKey       Rule = "valn1208"
	RuleCommitPathKeys      Rule = "valn1209"
	RuleConfirmationTag     Rule = "ValSem205"
)

// The rules of Welcome and GroupInfo.
const (
	RuleWelcomePSK          Rule = "valn1401"
	RuleGroupInfoSignature  Rule = "valn1402"
	RuleWelcomeGroupID      Rule = "valn1403"
	RuleWelcomeSuite        Rule = "valn1404"
	RuleTreeHash            Rule = "valn1405"
	RuleTreeLeaf            Rule = "valn1407"
	RuleWelcomeConfirmation Rule = "valn1411"
	RuleWelcomeEpoch        Rule = "valn1412"
	RuleWelcomeReInit       Rule = "valn1413"
	RuleWelcomeBranch       Rule = "valn1414"
	RuleWelcomeEntry        Rule = "welcome-entry"
	RuleWelcomeDecrypt      Rule = "welcome-decrypt"
	RuleWelcomeLeaf         Rule = "welcome-leaf"
	RuleWelcomeTree         Rule = "welcome-tree"
	RuleWelcomeReInitPSK    Rule = "welcome-reinit-psk"
	RuleGroupInfoContext    Rule = "group-info-context"
	RuleGroupInfoTag        Rule = "group-info-tag"
	RuleGroupInfoPub        Rule = "group-info-external-pub"
	RuleGroupVersion        Rule = "group-version"
)

// A RuleInfo describes a [Rule].
type RuleInfo struct {
	Rule Rule
	// Section of RFC 9420 or, after a colon, of draft-ietf-mls-extensions.
	Section string
	// Text says what must hold.
	Text string
	// Also is the id of the same rule in other lists.
	Also string
	// Within: the rule says that an inner object is valid, and is reported as the
	// rule that this object breaks.
	Within bool
	// Unreachable says why no message can break the rule here; empty for most.
	Unreachable string
}

const extensionsDraft = "draft-ietf-mls-extensions: "

var ruleTable = []RuleInfo{
	{Rule: RuleLeafCredential, Section: "§7.3", Text: "the Authenticator accepts the credential and the signature key"},
	{Rule: RuleLeafSignature, Section: "§7.3", Text: "the leaf is signed with its signature_key, for its group and place unless it comes from a key package"},
	{Rule: RuleLeafRequired, Section: "§7.3", Text: "the leaf's capabilities list all that required_capabilities names", Also: "ValSem106 ValSem109"},
	{Rule: RuleLeafCredentialSupport, Section: "§7.3", Text: "every member supports every credential type in use"},
	{Rule: RuleLeafExpiredSending, Section: "§7.3", Text: "a leaf that is sent is within its lifetime"},
	{Rule: RuleLeafExpired, Section: "§7.3", Text: "a leaf that is received is within its lifetime (Config.CheckReceivedLifetimes)"},
	{Rule: RuleLeafExtensions, Section: "§7.3", Text: "the leaf's extensions are listed in its capabilities"},
	{Rule: RuleLeafSourceKeyPackage, Section: "§7.3", Text: "the leaf of a key package has leaf_node_source key_package"},
	{Rule: RuleLeafSourceUpdate, Section: "§7.3", Text: "the leaf of an Update has leaf_node_source update and a new encryption_key"},
	{Rule: RuleLeafSourceCommit, Section: "§7.3", Text: "the leaf of a path has leaf_node_source commit"},
	{Rule: RuleSignatureKeyUnique, Section: "§7.3", Text: "no two members have the same signature_key", Also: "ValSem101"},
	{Rule: RuleEncryptionUnique, Section: "§7.3", Text: "no two members have the same encryption_key", Also: "ValSem103 ValSem110"},
	{Rule: RuleLeafOwnCredential, Section: "§7.2", Text: "the leaf's capabilities list its own credential type"},
	{Rule: RuleLeafDefaults, Section: "§7.2", Text: "capabilities list no default extension or proposal type"},
	{Rule: RuleLeafLifetime, Section: "§7.2", Text: "the lifetime is not longer than Limits.MaxLifetime and does not end before it begins"},
	{Rule: RuleLeafKeys, Section: "§5.1.1", Text: "signature_key and encryption_key are public keys of the cipher suite, and none that makes others fail"},
	{Rule: RuleLeafSuite, Section: "§7.2", Text: "the leaf's capabilities list the version and cipher suite of the group"},
	{Rule: RuleLeafSuccessor, Section: "§12.1.2", Text: "the Authenticator accepts the new leaf as the successor of the old"},
	{Rule: RuleCredentialX509, Section: "§5.3", Text: "the end-entity certificate of an x509 credential is for the signature key"},

	{Rule: RuleKeyPackageSuite, Section: "§10.1", Text: "version and cipher suite are those of the group", Also: "ValSem105"},
	{Rule: RuleKeyPackageLeaf, Section: "§10.1", Text: "the leaf node is valid for a key package", Within: true},
	{Rule: RuleKeyPackageSignature, Section: "§10.1", Text: "the key package is signed with the leaf's signature_key"},
	{Rule: RuleKeyPackageInitKey, Section: "§10.1", Text: "init_key is a public key and differs from the leaf's encryption_key", Also: "ValSem104"},
	{Rule: RuleKeyPackageVersion, Section: "§10", Text: "a key package in an MLSMessage has the message's version"},

	{Rule: RuleProposalInvalid, Section: "§12.2", Text: "every proposal is valid by itself", Within: true},
	{Rule: RuleUpdateByCommitter, Section: "§12.2", Text: "no Update is by the committer", Also: "ValSem111"},
	{Rule: RuleRemoveCommitter, Section: "§12.2", Text: "no Remove removes the committer", Also: "ValSem200"},
	{Rule: RuleSameLeaf, Section: "§12.2", Text: "at most one Update, Remove or SelfRemove applies to a leaf", Also: "ValSem107"},
	{Rule: RuleReferenceTwice, Section: "§12.4", Text: "a commit refers to a proposal once"},
	{Rule: RuleAddTwice, Section: "§12.2", Text: "no two Adds add the same client"},
	{Rule: RuleAddMember, Section: "§12.2", Text: "no Add adds a member, unless it is removed too"},
	{Rule: RulePSKTwice, Section: "§12.2", Text: "no two PreSharedKey proposals have the same PreSharedKeyID", Also: "ValSem403"},
	{Rule: RuleContextTwice, Section: "§12.2", Text: "at most one GroupContextExtensions", Also: "ValSem208"},
	{Rule: RuleReInitAlone, Section: "§12.2", Text: "a ReInit is the only proposal"},
	{Rule: RuleExternalInitMember, Section: "§12.2", Text: "a member's commit has no ExternalInit"},
	{Rule: RuleProposalSupport, Section: "§12.2", Text: "all members that stay support the type of every proposal", Also: "ValSem113"},
	{Rule: RuleTreeAfter, Section: "§12.2", Text: "the tree is valid after the commit", Within: true},
	{Rule: RuleInitKeyTwice, Section: "§10.1", Text: "no two Adds have the same init_key"},
	{Rule: RuleExternalInitOnce, Section: "§12.2", Text: "an external commit has exactly one ExternalInit, whose KEM output fits the suite", Also: "ValSem240 ValSem241"},
	{Rule: RuleExternalRemove, Section: "§12.2", Text: "an external commit has at most one Remove, of the joiner's former self"},
	{Rule: RuleExternalPSK, Section: "§12.2", Text: "an external commit may have PreSharedKey proposals", Within: true},
	{Rule: RuleExternalOther, Section: "§12.2", Text: "an external commit has no other proposals", Also: "ValSem242"},
	{Rule: RuleExternalPath, Section: "§12.4.3.2", Text: "an external commit has a path", Also: "ValSem245"},
	{Rule: RuleExternalByReference, Section: "§12.4.3.2", Text: "an external commit refers to no proposal but SelfRemove", Also: "ValSem244"},
	{Rule: RuleExternalSignature, Section: "§12.4.3.2", Text: "an external commit is signed with the key of its path's leaf", Also: "ValSem246"},
	{Rule: RuleExternalSenderType, Section: "§12.4.3.2", Text: "an external commit has sender type new_member_commit", Also: "valn0310", Within: true},
	{Rule: RuleAddKeyPackage, Section: "§12.1.1", Text: "the key package of an Add is valid", Within: true},
	{Rule: RuleUpdateLeaf, Section: "§12.1.2", Text: "the leaf node of an Update is valid", Within: true},
	{Rule: RuleUpdateSender, Section: "§12.1.2", Text: "an Update is sent by a member", Unreachable: "an Update of anybody else breaks valn1502, valn1504 or valn0404 before"},
	{Rule: RuleRemoveBlank, Section: "§12.1.3", Text: "a Remove names a member", Also: "ValSem108"},
	{Rule: RulePSKReInit, Section: "§12.1.4", Text: "a resumption PSK with usage reinit appears only when a group is reinitialized", Also: "ValSem402"},
	{Rule: RulePSKBranch, Section: "§12.1.4", Text: "a resumption PSK with usage branch appears only when a group is branched", Also: "ValSem402"},
	{Rule: RulePSKNonce, Section: "§12.1.4", Text: "psk_nonce has KDF.Nh octets", Also: "ValSem401"},
	{Rule: RuleReInitVersion, Section: "§12.1.5", Text: "a ReInit does not lower the version"},
	{Rule: RuleContextRequired, Section: "§12.1.7", Text: "all members support what a new required_capabilities names"},
	{Rule: RuleContextSupport, Section: "§13.4", Text: "all members support every extension of the GroupContext", Also: "ValSem209"},
	{Rule: RuleContextSenders, Section: "§12.1.8.1", Text: "external_senders decodes and the Authenticator accepts its credentials"},
	{Rule: RuleReInitFrozen, Section: "§12.4.2", Text: "a group that was reinitialized sends and takes no messages"},
	{Rule: RuleSelfRemoveValue, Section: extensionsDraft + "SelfRemove Proposal", Text: "SelfRemove is covered by reference"},
	{Rule: RuleSelfRemovePrivate, Section: extensionsDraft + "SelfRemove Proposal", Text: "SelfRemove is sent as a PublicMessage"},
	{Rule: RuleSelfRemoveCommitter, Section: extensionsDraft + "SelfRemove Proposal", Text: "a commit covers no SelfRemove of the committer"},
	{Rule: RuleAppDataMixed, Section: extensionsDraft + "Updating Application Data in the GroupContext", Text: "a component has one remove or any number of updates"},
	{Rule: RuleAppDataMissing, Section: extensionsDraft + "Updating Application Data in the GroupContext", Text: "a component that is removed has data"},
	{Rule: RuleAppDataRefused, Section: extensionsDraft + "Updating Application Data in the GroupContext", Text: "the application accepts the update"},
	{Rule: RuleAppDataContext, Section: extensionsDraft + "Updating Application Data in the GroupContext", Text: "a GroupContextExtensions leaves the dictionary alone where AppDataUpdate is required"},
	{Rule: RuleAppComponents, Section: extensionsDraft + "Negotiating Extensions and Components", Text: "every member lists the components that the app_components and safe_aad of the GroupContext require"},
	{Rule: RuleAppDataFormat, Section: extensionsDraft + "Attaching Application Data to MLS Messages", Text: "a dictionary is sorted by component, each at most once"},
	{Rule: RulePolicy, Section: "§12.2", Text: "the application's Policy allows the change"},
	{Rule: RuleLimit, Section: "§15.3", Text: "sizes and counts are within Limits"},

	{Rule: RulePathCiphertexts, Section: "§7.6", Text: "a path node has one ciphertext for each node of the copath's resolution without new leaves", Also: "ValSem203"},
	{Rule: RulePathLength, Section: "§7.5", Text: "a path has one node for each of the filtered direct path", Also: "ValSem202"},
	{Rule: RulePathParentHash, Section: "§7.9.2", Text: "the parent_hash of the path's leaf matches the path"},
	{Rule: RulePathKeys, Section: "§7.5", Text: "the keys derived from a path secret are those of the path", Also: "ValSem204"},
	{Rule: RulePathDecrypt, Section: "§7.5", Text: "the path secret decrypts and has KDF.Nh octets", Also: "ValSem203"},
	{Rule: RulePathKeyFormat, Section: "§7.6", Text: "the keys of a path are public keys of the cipher suite"},

	{Rule: RuleTreeTooLarge, Section: "§12.4.3.3", Text: "the tree is within Limits.MaxMembers"},
	{Rule: RuleTreeShape, Section: "§12.4.3.3", Text: "leaves stand at even places, parents at odd ones"},
	{Rule: RuleTreeTrailingBlank, Section: "§12.4.3.3", Text: "the tree does not end in a blank node", Also: "ValSem300"},
	{Rule: RuleTreeParentHash, Section: "§7.9.2", Text: "every parent node is parent-hash valid"},
	{Rule: RuleTreeUnmergedLeaf, Section: "§12.4.3.1", Text: "an unmerged leaf is a non-blank descendant"},
	{Rule: RuleTreeUnmergedPath, Section: "§12.4.3.1", Text: "an unmerged leaf is listed by every non-blank node between"},
	{Rule: RuleTreeKeyFormat, Section: "§7.6", Text: "the keys of parent nodes are public keys of the cipher suite, and none that makes others fail"},
	{Rule: RuleTreeParentKey, Section: "§12.4.3.1", Text: "the key of a parent node appears in no other node"},

	{Rule: RuleExtensionUnique, Section: "§13.4", Text: "an extension list has each type at most once"},
	{Rule: RuleExtensionLeaf, Section: "§17.3", Text: "of the RFC's extensions a leaf node has application_id alone"},
	{Rule: RuleExtensionGroupInfo, Section: "§17.3", Text: "of the RFC's extensions a GroupInfo has ratchet_tree and external_pub alone"},
	{Rule: RuleExtensionContext, Section: "§17.3", Text: "of the RFC's extensions a GroupContext has required_capabilities and external_senders alone, and they decode"},
	{Rule: RuleExtensionKeyPackage, Section: "§17.3", Text: "a key package has none of the RFC's extensions"},
	{Rule: RuleExtensionUnsupported, Section: "§13.4", Text: "a joiner supports every extension of the GroupContext"},

	{Rule: RuleGroupID, Section: "§6", Text: "a message belongs to this group"},
	{Rule: RuleSenderBlank, Section: "§6.1", Text: "a member that sends stands in the tree"},
	{Rule: RuleApplicationPublic, Section: "§6.2", Text: "application data is never sent as a PublicMessage"},
	{Rule: RuleDecrypt, Section: "§6.3.1", Text: "a PrivateMessage decrypts with the key of its sender and generation"},
	{Rule: RuleSignature, Section: "§6.1", Text: "a message is signed with the key of its sender", Also: "ValSem010"},
	{Rule: RuleMembershipTag, Section: "§6.2", Text: "a member's PublicMessage has the right membership_tag", Also: "ValSem007 ValSem008"},
	{Rule: RulePadding, Section: "§6.3.1", Text: "padding is all zero", Also: "ValSem011"},
	{Rule: RulePrivateSignature, Section: "§6.3.1", Text: "the content of a PrivateMessage is signed with the key of its sender"},
	{Rule: RulePrivateSender, Section: "§6.3.2", Text: "the sender of a PrivateMessage is a member", Unreachable: "only members have a Group to seal with, and SenderData has no sender type"},
	{Rule: RuleSenderDataLeaf, Section: "§6.3.2", Text: "sender data names a non-blank leaf"},
	{Rule: RuleProposalEpoch, Section: "§12.1", Text: "a proposal belongs to the current epoch", Also: "ValSem003"},
	{Rule: RuleSenderData, Section: "§6.3.2", Text: "sender data decrypts, with group, epoch and content type as authenticated data"},
	{Rule: RuleSafeAAD, Section: extensionsDraft + "Safe Additional Authenticated Data (AAD)", Text: "where the GroupContext has safe_aad, authenticated_data is a SafeAAD"},
	{Rule: RuleExternalContent, Section: "§6.1", Text: "an external sender sends proposals alone"},
	{Rule: RuleExternalProposalType, Section: "§12.1.8", Text: "an external sender sends only the types allowed to it"},
	{Rule: RuleNewMemberContent, Section: "§6.1", Text: "new_member_proposal sends proposals alone"},
	{Rule: RuleNewMemberType, Section: "§6.1", Text: "new_member_proposal sends an Add"},
	{Rule: RuleExternalSenderIndex, Section: "§12.1.8.1", Text: "an external sender stands in external_senders"},
	{Rule: RuleJoinerContent, Section: "§6.1", Text: "new_member_commit sends a commit"},

	{Rule: RuleCommitEpoch, Section: "§12.4.2", Text: "a commit belongs to the current epoch", Also: "ValSem003"},
	{Rule: RuleCommitMembershipTag, Section: "§12.4.2", Text: "a member's public commit has the right membership_tag"},
	{Rule: RuleCommitSignature, Section: "§12.4.2", Text: "a commit is signed with the key of its sender"},
	{Rule: RuleCommitProposals, Section: "§12.4.2", Text: "the proposal list is valid", Within: true},
	{Rule: RuleCommitPSK, Section: "§12.4.2", Text: "all pre-shared keys are available"},
	{Rule: RuleCommitPath, Section: "§12.4.2", Text: "the path is there when a proposal needs it, or there is no proposal", Also: "ValSem201"},
	{Rule: RuleCommitLeaf, Section: "§12.4.2", Text: "the path's leaf is valid", Within: true},
	{Rule: RuleCommitLeafKey, Section: "§12.4.2", Text: "the path's leaf has a new encryption_key"},
	{Rule: RuleCommitPathKeys, Section: "§12.4.2", Text: "no key of the path stands in the tree", Also: "ValSem206 ValSem207"},
	{Rule: RuleConfirmationTag, Section: "§12.4.2", Text: "the confirmation_tag is right", Also: "ValSem009"},

	{Rule: RuleWelcomePSK, Section: "§12.4.3.1", Text: "the PSKs of a Welcome are at hand; one with usage reinit or branch is the only such"},
	{Rule: RuleGroupInfoSignature, Section: "§12.4.3.1", Text: "GroupInfo is signed by a member"},
	{Rule: RuleWelcomeGroupID, Section: "§12.4.3.1", Text: "the group_id is new to the client"},
	{Rule: RuleWelcomeSuite, Section: "§12.4.3.1", Text: "GroupInfo, Welcome and key package have the same cipher suite"},
	{Rule: RuleTreeHash, Section: "§12.4.3.1", Text: "the tree has the tree_hash of the GroupContext"},
	{Rule: RuleTreeLeaf, Section: "§12.4.3.1", Text: "every leaf of the tree is valid", Within: true},
	{Rule: RuleWelcomeConfirmation, Section: "§12.4.3.1", Text: "the confirmation_tag of GroupInfo is right"},
	{Rule: RuleWelcomeEpoch, Section: "§12.4.3.1", Text: "a group that was reinitialized or branched is joined in epoch 1"},
	{Rule: RuleWelcomeReInit, Section: "§11.2", Text: "the new group matches the ReInit and has all members of the old"},
	{Rule: RuleWelcomeBranch, Section: "§11.3", Text: "the new group has version and suite of the old and no member that the old had not"},
	{Rule: RuleWelcomeEntry, Section: "§12.4.3.1", Text: "the Welcome has exactly one entry for the key package"},
	{Rule: RuleWelcomeDecrypt, Section: "§12.4.3.1", Text: "the Welcome decrypts"},
	{Rule: RuleWelcomeLeaf, Section: "§12.4.3.1", Text: "the leaf of the key package stands in the tree, and is not the signer's"},
	{Rule: RuleWelcomeTree, Section: "§12.4.3.3", Text: "the tree comes with the Welcome or apart, and is the same if both"},
	{Rule: RuleWelcomeReInitPSK, Section: "§11.2", Text: "a Welcome that follows a ReInit or a branch has the resumption PSK that says so"},
	{Rule: RuleGroupInfoContext, Section: "§12.4.3", Text: "GroupInfo has the GroupContext of the group"},
	{Rule: RuleGroupInfoTag, Section: "§12.4.3", Text: "GroupInfo has the confirmation_tag of the epoch"},
	{Rule: RuleGroupInfoPub, Section: "§12.4.3.2", Text: "external_pub is a public key of the cipher suite"},
	{Rule: RuleGroupVersion, Section: "§12.4.3.1", Text: "the group's version is mls10"},
}

var ruleByID = func() map[Rule]*RuleInfo {
	m := make(map[Rule]*RuleInfo, len(ruleTable))
	for i := range ruleTable {
		m[ruleTable[i].Rule] = &ruleTable[i]
	}
	return m
}()

// Rules returns the table of all rules, by subject.
func Rules() []RuleInfo { return append([]RuleInfo(nil), ruleTable...) }

// Section returns the section of RFC 9420, or of another text, that states the
// rule; empty when the id is unknown.
func (r Rule) Section() string {
	info := ruleByID[r]
	switch {
	case info == nil:
		return ""
	case info.Section[0] == 0xc2: // the section sign
		return "RFC 9420 " + info.Section
	}
	return info.Section
}
